"""Nobody without this cluster's token gets in: asked of the real servers of two real clusters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.command import Command
from tests.tuner.cluster.ray_head import RayHead, ray_head

pytestmark = pytest.mark.slow

READS = (
    "/api/version",
    "/api/jobs/",
    "/api/cluster_status",
    "/api/v0/nodes",
    "/api/v0/actors",
    "/api/v0/logs?node_ip=127.0.0.1",
    "/api/v0/logs/file?node_ip=127.0.0.1&filename=raylet.out&lines=1",
    "/nodes?view=summary",
    "/api/actors/kill?actor_id=0&force_kill=true",
    "/logical/actors",
    "/worker/traceback?pid=1&ip=127.0.0.1",
)
GRPC = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.ActorInfoGcsService/GetAllActorInfo",
)
WRONG = "0" * 64
DRIVER = """
import ray, sys
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
print("in:", len(ray.nodes()))
"""


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with ray_head() as made:
        yield made


@pytest.fixture(scope="module")
def other() -> Iterator[RayHead]:
    """Another cluster, whose token is a good one there."""
    with ray_head() as made:
        yield made


def status(url: str, headers: Mapping[str, str], method: str = "GET", body: object = None) -> int:
    data = None if body is None else json.dumps(body).encode()
    headers = {**headers, "Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def carrying(token: str | None) -> list[dict[str, str]]:
    """Every way in which Ray takes a token."""
    if token is None:
        return [{}, {"Authorization": ""}, {"Authorization": "Bearer "}]
    return [
        {"Authorization": f"Bearer {token}"},
        {"X-Ray-Authorization": f"Bearer {token}"},
        {"Cookie": f"ray-authentication-token={token}"},
    ]


def refusal(token: str | None) -> set[int]:
    return {401} if token is None else {403}


def strangers(other: RayHead) -> dict[str, str | None]:
    return {"no token": None, "a wrong token": WRONG, "another cluster's token": other.token}


def test_each_cluster_lets_its_own_token_in(head: RayHead, other: RayHead) -> None:
    for cluster in (head, other):
        for headers in carrying(cluster.token):
            assert status(f"{cluster.url}/api/version", headers) == 200
            assert status(f"{cluster.url}/api/jobs/", headers) == 200


def test_the_dashboard_refuses_everybody_else(head: RayHead, other: RayHead) -> None:
    for who, token in strangers(other).items():
        for path in READS:
            seen = {status(head.url + path, headers) for headers in carrying(token)}
            assert seen <= {401, 403}, (who, path, seen)
            assert refusal(token) <= seen, (who, path, seen)


def test_nobody_else_can_queue_stop_or_delete_a_job(
    head: RayHead, other: RayHead, tmp_path: Path
) -> None:
    victim = head.connection().client.submit_job(entrypoint="sleep 300")
    proof = tmp_path / "it-ran"
    job = {"entrypoint": f"touch {proof}"}
    for who, token in strangers(other).items():
        for headers in carrying(token):
            queued = status(f"{head.url}/api/jobs/", headers, "POST", job)
            stopped = status(f"{head.url}/api/jobs/{victim}/stop", headers, "POST", {})
            deleted = status(f"{head.url}/api/jobs/{victim}", headers, "DELETE")
            uploaded = status(f"{head.url}/api/packages/gcs/a.zip", headers, "PUT", "x")
            assert {queued, stopped, deleted, uploaded} <= {401, 403}, (who, headers)
    jobs = head.connection().client.list_jobs()
    assert [one.submission_id for one in jobs] == [victim]
    assert not jobs[0].status.is_terminal()
    assert not proof.exists()
    head.connection().client.stop_job(victim)


def test_the_head_s_own_port_refuses_everybody_else(head: RayHead, other: RayHead) -> None:
    """GCS, which hands out actors, placement and code: it listens on every interface."""
    import grpc

    def ask(method: str, token: str | None) -> str:
        sent = (("authorization", f"Bearer {token}"),) if token else ()
        with grpc.insecure_channel(head.address) as channel:
            try:
                channel.unary_unary(method)(b"", timeout=60, metadata=sent)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"

    for method in GRPC:
        assert ask(method, head.token) == "OK", method
        for who, token in strangers(other).items():
            assert ask(method, token) == "UNAUTHENTICATED", (method, who)


def test_a_driver_with_another_token_does_not_get_in(
    head: RayHead, other: RayHead, tmp_path: Path
) -> None:
    def token(value: str) -> dict[str, str]:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": value}

    environments = (
        token(head.token),
        token(WRONG),
        token(other.token),
        {"RAY_AUTH_MODE": "disabled"},
    )
    # At once: Ray tries for a minute before it gives up.
    with ThreadPoolExecutor() as pool:
        ours, *theirs = pool.map(lambda one: drive(head, tmp_path, one), environments)
    assert "in: 1" in ours
    assert not any("in:" in said for said in theirs), theirs
    assert all("InvalidAuthToken" in said for said in theirs[:2]), theirs


def drive(head: RayHead, home: Path, env: Mapping[str, str]) -> str:
    """What a Ray program says that attaches to the cluster."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, head.address],
        env={**ours, **env, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.stdout + done.stderr


def test_foldblend_says_what_is_wrong_with_a_token(
    head: RayHead,
    other: RayHead,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    command = Command(monkeypatch, capsys)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for token in strangers(other).values():
        if token is not None:
            monkeypatch.setenv("RAY_AUTH_TOKEN", token)
        error = command("jobs", "--address", head.url).one_line_error()
        assert "token" in error
        assert token is None or token not in error
    monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
    assert command("jobs", "--address", head.url).code == 0
