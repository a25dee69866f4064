from __future__ import annotations

import pytest

from tuner.cluster import trouble
from tuner.cluster.address import Address, Token
from tuner.errors import UserError

ADDRESS = Address("http://head:8265", "--address")
TOKEN = Token("secret", "the file /home/me/.ray/auth_token")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("[Errno 111] Connection refused", "connection refused"),
        ("('Connection aborted.', RemoteDisconnected(…))", "the connection was cut"),
        ("HTTPConnectionPool: Read timed out. (read timeout=60)", "no answer in time"),
        ("Failed to resolve 'x' ([Errno -2] Name or service not known)", "unknown host name"),
        ("something that nobody has seen", "something that nobody has seen"),
    ],
)
def test_a_library_s_chain_of_errors_becomes_its_plain_cause(raw: str, words: str) -> None:
    assert f"{ADDRESS}: {words}; open the tunnel" in str(trouble.unreachable(ADDRESS, raw))


def test_what_the_libraries_raise_is_said_in_words() -> None:
    import requests
    from ray.exceptions import AuthenticationError

    for raised, expected in (
        (requests.ConnectionError("Connection refused"), trouble.UnreachableError),
        (requests.Timeout("timed out"), trouble.UnreachableError),
        (ConnectionError("Failed to connect to Ray"), trouble.UnreachableError),
        (AuthenticationError("wrong"), trouble.RefusedError),
        (requests.JSONDecodeError("not JSON", "", 0), UserError),
        (requests.exceptions.InvalidURL("bad"), UserError),
    ):
        with pytest.raises(expected), trouble.in_words(ADDRESS, TOKEN):
            raise raised


def test_a_mistake_of_ours_is_no_trouble_of_the_connection() -> None:
    with pytest.raises(KeyError), trouble.in_words(ADDRESS, TOKEN):
        raise KeyError("ray_version")
    with pytest.raises(RuntimeError), trouble.cut_in_words(ADDRESS, TOKEN, "job"):
        raise RuntimeError("something else")


def test_a_broken_websocket_is_a_broken_connection() -> None:
    with (
        pytest.raises(trouble.UnreachableError, match="the connection was cut"),
        trouble.cut_in_words(ADDRESS, TOKEN, "job"),
    ):
        raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")


def test_a_lost_connection_says_how_to_come_back_and_how_to_resume() -> None:
    for text in (
        trouble.while_away(ADDRESS, "foldblend-a-1", "s3://b/a"),
        str(trouble.lost(ADDRESS, "foldblend-a-1", "s3://b/a", "Connection refused")),
    ):
        assert "`foldblend logs foldblend-a-1 -f --address http://head:8265`" in text
        assert "`foldblend resume s3://b/a --address http://head:8265`" in text


def test_a_head_that_was_started_anew_says_how_to_resume() -> None:
    assert "`foldblend resume s3://b/a" in str(trouble.head_anew(ADDRESS, "job", "s3://b/a"))
    assert "`foldblend resume RUN" in str(trouble.head_anew(ADDRESS, "job", None))


def test_a_command_to_paste_is_quoted_for_a_shell() -> None:
    run = "s3://b/cars?endpoint_override=h:9000&scheme=http"
    for error in (
        trouble.lost(ADDRESS, "job", run, "Connection refused"),
        trouble.head_anew(ADDRESS, "job", run),
    ):
        assert f"`foldblend resume '{run}' --address http://head:8265` goes on" in str(error)


def test_a_job_that_is_not_there_names_what_is_near() -> None:
    known = ["foldblend-cars-1a", "foldblend-birds-2b"]
    assert "did you mean foldblend-cars-1a?" in str(trouble.no_such_job("cars", known))
    assert "did you mean foldblend-birds-2b" in str(trouble.no_such_job("foldblend-bird-2b", known))
    assert "it knows foldblend-cars-1a, foldb" in str(trouble.no_such_job("zzz", known))
    assert "it knows none" in str(trouble.no_such_job("zzz", []))


def test_another_ray_on_the_cluster_is_refused_with_both_versions() -> None:
    from importlib.metadata import version

    trouble.check_ray(ADDRESS, version("ray"))
    with pytest.raises(UserError, match=r"runs Ray 2\.1\.0, this machine has Ray .*=2\.1\.0'"):
        trouble.check_ray(ADDRESS, "2.1.0")


@pytest.mark.parametrize(
    "text",
    [
        "Request failed with status code 404: Job x does not exist.",
        "Request failed with status code 404: .",
    ],
)
def test_rays_word_for_a_missing_job_is_understood(text: str) -> None:
    assert trouble.is_missing(RuntimeError(text))
    assert not trouble.is_missing(RuntimeError("Request failed with status code 500: …"))


def test_a_dashboard_whose_head_is_ill_is_worth_another_try() -> None:
    said = "Request failed with status code 500: Traceback (most …):\n  …\nGcsError: x\n."
    with (
        pytest.raises(trouble.UnreachableError, match=r"HTTP 500: .*; the head is ill"),
        trouble.in_words(ADDRESS, TOKEN),
    ):
        raise RuntimeError(said)
    with pytest.raises(UserError, match=r"HTTP 400: no$"), trouble.in_words(ADDRESS, TOKEN):
        raise RuntimeError("Request failed with status code 400: no.")
    with pytest.raises(RuntimeError), trouble.in_words(ADDRESS, TOKEN):
        raise RuntimeError("a mistake of ours")
