from __future__ import annotations

from pathlib import Path

import pytest

from tuner.cluster.address import DEFAULT_URL, Address, Token, find_address, find_token
from tuner.errors import UserError


def test_the_option_comes_before_the_environment() -> None:
    found = find_address("http://10.0.0.1:8265/", {"RAY_ADDRESS": "http://10.0.0.2:8265"})
    assert (found.url, found.source) == ("http://10.0.0.1:8265", "--address")


def test_rays_api_address_comes_before_its_address() -> None:
    environment = {"RAY_API_SERVER_ADDRESS": "https://a:1", "RAY_ADDRESS": "http://b:2"}
    assert find_address(None, environment).url == "https://a:1"


@pytest.mark.parametrize("text", ["auto", "10.0.0.1:6379", "ray://10.0.0.1:10001"])
def test_an_address_of_another_kind_is_passed_over_and_named(text: str) -> None:
    found = find_address(None, {"RAY_ADDRESS": text})
    assert found.url == DEFAULT_URL
    assert f"RAY_ADDRESS={text}" in found.source


def test_a_host_and_port_alone_is_http() -> None:
    assert find_address("head:8265", {}).url == "http://head:8265"


@pytest.mark.parametrize("text", ["ftp://head", "http://", "http://head:none", "http://[::1"])
def test_what_is_no_address_of_a_dashboard_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--address=.*expected the address of a Ray dashboard"):
        find_address(text, {})


def test_the_port_of_rays_own_protocol_is_refused() -> None:
    with pytest.raises(UserError, match="port 6379 is not the dashboard's"):
        find_address("http://head:6379", {})


def test_the_next_command_repeats_an_address_that_was_given() -> None:
    assert Address("http://a:1", "--address").option == " --address http://a:1"
    assert Address("http://a:1", "RAY_ADDRESS").option == ""
    assert Address("http://a:1/?x=1&y", "--address").option == " --address 'http://a:1/?x=1&y'"


def test_an_address_knows_whether_the_user_gave_it() -> None:
    assert find_address("a:1", {}).is_given
    assert find_address(None, {"RAY_ADDRESS": "http://a:1"}).is_given
    assert not find_address(None, {}).is_given
    assert not find_address(None, {"RAY_ADDRESS": "auto"}).is_given


@pytest.mark.parametrize(
    ("url", "here"), [("http://localhost:1", True), ("http://[::1]:1", True), ("http://a:1", False)]
)
def test_an_address_knows_whether_it_is_this_machine(url: str, here: bool) -> None:
    assert Address(url, "").is_loopback is here


def test_a_token_is_looked_for_where_ray_looks(tmp_path: Path) -> None:
    (tmp_path / "named").write_text("of the named file\n")
    default = tmp_path / ".ray" / "auth_token"
    default.parent.mkdir()
    default.write_text("of the default file")
    environment = {"HOME": str(tmp_path)}
    assert find_token(environment).value == "of the default file"
    environment["RAY_AUTH_TOKEN_PATH"] = str(tmp_path / "named")
    assert find_token(environment).value == "of the named file"
    environment["RAY_AUTH_TOKEN"] = "of the variable"
    assert find_token(environment).value == "of the variable"


def test_without_a_token_the_places_that_were_looked_at_are_named(tmp_path: Path) -> None:
    found = find_token({"HOME": str(tmp_path)})
    assert found.value is None
    assert found.headers() == {}
    assert f"{tmp_path}/.ray/auth_token" in found.source


def test_a_named_token_file_must_be_readable_and_hold_one(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "RAY_AUTH_TOKEN_PATH": str(tmp_path / "missing")}
    with pytest.raises(UserError, match=r"RAY_AUTH_TOKEN_PATH=.*No such file"):
        find_token(environment)
    (tmp_path / "missing").write_text(" \n")
    with pytest.raises(UserError, match="holds no token"):
        find_token(environment)
    (tmp_path / "missing").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        find_token(environment)


def test_a_token_is_sent_and_never_shown() -> None:
    token = Token("secret", "a test")
    assert token.headers() == {"Authorization": "Bearer secret"}
    assert "secret" not in f"{token!r} {token}"
