"""Against small servers here; with a real head in tests/tuner/test_cluster_commands.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.tuner.cluster.dashboard import NODE, TOKEN, Dashboard, nodes, ray_answers, serving
from tuner.cluster.connection import Connection, HttpError
from tuner.cluster.trouble import RefusedError, UnreachableError
from tuner.errors import UserError


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home without a token, so that the user's is never read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)


def opened(answers: dict[str, Any], **settings: Any) -> tuple[Connection, Dashboard]:
    with serving(Dashboard(answers, **settings)) as dashboard:
        return Connection.open(dashboard.url), dashboard


def test_an_open_connection_knows_the_clusters_ray() -> None:
    connection, dashboard = opened(ray_answers())
    assert connection.ray_version == "2.60.0"
    assert connection.address.url == dashboard.url


def test_a_cluster_without_tokens_is_spoken_to_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    answers = ray_answers() | {"/api/authentication_mode": {"authentication_mode": "disabled"}}
    assert opened(answers, wants_token=False)[0].ray_version == "2.60.0"


def test_no_token_here_is_said_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    with pytest.raises(RefusedError, match=r"asks for a token and there is none here.*auth_token"):
        opened(ray_answers())


def test_a_token_of_another_cluster_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another cluster")
    with pytest.raises(RefusedError, match="refuses the token of RAY_AUTH_TOKEN") as refused:
        opened(ray_answers())
    assert "of another cluster" not in str(refused.value).replace("to another cluster", "")


def test_nobody_at_the_address_is_said_with_where_the_address_came_from() -> None:
    port = free_port()
    with pytest.raises(UnreachableError, match=rf"127.0.0.1:{port} \(--address\): connection ref"):
        Connection.open(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "answers",
    [
        {"/": "<html>a router</html>"},
        {"/api/authentication_mode": "<html>a router</html>"},
        {"/api/authentication_mode": {"hello": "world"}},
        {"/api/authentication_mode": ["authentication_mode"]},
    ],
)
def test_what_is_no_dashboard_is_told_so_and_never_gets_the_token(answers: dict[str, Any]) -> None:
    with serving(Dashboard(answers, wants_token=False)) as other:
        with pytest.raises(UserError, match="it is no Ray dashboard"):
            Connection.open(other.url)
        assert [header for _, header in other.asked] == [None]


def test_a_proxy_that_wants_the_token_first_gets_it_at_an_address_that_was_given() -> None:
    connection, dashboard = opened(ray_answers(), behind_proxy=True)
    assert connection.ray_version == "2.60.0"
    assert [header for _, header in dashboard.asked] == [None, f"Bearer {TOKEN}"]


def test_what_asks_for_a_token_at_the_default_address_never_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A notebook server on the port of Ray's dashboard does."""
    with serving(Dashboard({}, behind_proxy=True)) as notebooks:
        monkeypatch.setattr("tuner.cluster.address.DEFAULT_URL", notebooks.url)
        with pytest.raises(UserError, match=r"it is no Ray dashboard \(HTTP 401.*--address"):
            Connection.open()
    assert [header for _, header in notebooks.asked] == [None]


def test_https_to_a_plain_server_is_said() -> None:
    with (
        serving(Dashboard(ray_answers())) as dashboard,
        pytest.raises(UnreachableError, match="it does not speak https"),
    ):
        Connection.open(dashboard.url.replace("http:", "https:"))


def test_nodes_come_with_the_head_first() -> None:
    worker = {"node_id": "b2", "node_ip": "10.0.0.0", "is_head_node": False}
    both = nodes({**worker, "resources_total": {"CPU": 4.0, "GPU": 1.0}}, NODE)
    with serving(Dashboard(ray_answers() | {"/api/v0/nodes": both})) as dashboard:
        found = Connection.open(dashboard.url).nodes()
    assert [(node.node_id, node.is_head) for node in found] == [("a1", True), ("b2", False)]
    assert found[1].resources == {"CPU": 4.0, "GPU": 1.0}


def test_a_cluster_that_lost_its_head_is_said() -> None:
    with serving(Dashboard(ray_answers() | {"/api/v0/nodes": nodes()})) as dashboard:
        connection = Connection.open(dashboard.url)
        with pytest.raises(UserError, match="no living head node"):
            connection.head()


def test_an_answer_that_is_no_success_carries_its_status() -> None:
    with serving(Dashboard(ray_answers())) as dashboard:
        connection = Connection.open(dashboard.url)
        with pytest.raises(HttpError, match=r"/api/nothing: HTTP 404: 404: Not Found") as error:
            connection.get("/api/nothing")
    assert error.value.status == 404


def test_a_connection_that_breaks_is_unreachable_and_works_again() -> None:
    with serving(Dashboard(ray_answers())) as dashboard:
        connection = Connection.open(dashboard.url)
    with pytest.raises(UnreachableError):
        connection.get("/api/version")


def test_rays_client_goes_to_the_address_given_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = {"type": "SUBMISSION", "status": "RUNNING", "entrypoint": "x"}
    ours = {**job, "submission_id": "foldblend-a-1", "start_time": 2}
    first = {**job, "submission_id": "foldblend-a-0", "start_time": 1}
    driver = {**job, "type": "DRIVER", "job_id": "01000000"}
    with serving(Dashboard(ray_answers() | {"/api/jobs/": [ours, driver, first]})) as dashboard:
        connection = Connection.open(dashboard.url)
        monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
        found = connection.jobs()
        with pytest.raises(UserError, match="did you mean foldblend-a-0"):
            connection.job("foldblend-a")
    assert [job.submission_id for job in found] == ["foldblend-a-0", "foldblend-a-1"]
