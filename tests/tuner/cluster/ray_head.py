"""A real head of a Ray cluster on this machine: tokens on, dashboard on, ended by its own ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.ports import free_port
from tuner.cluster.address import Address, Token
from tuner.cluster.connection import Connection
from tuner.errors import UserError

START_SECONDS = 180


@dataclass(frozen=True)
class RayHead:
    """`url`: of the dashboard. `folder`: Ray's temporary files. `address`: where drivers attach."""

    url: str
    token: str
    folder: Path
    address: str

    def connection(self, url: str | None = None) -> Connection:
        """`url`: of a way around, such as a tunnel."""
        return Connection(Address(url or self.url, "a test"), Token(self.token, "a test"), "")

    @property
    def logs(self) -> Path:
        return self.folder / "session_latest" / "logs"


@contextmanager
def ray_head() -> Iterator[RayHead]:
    """Up and answering inside the block. `foldblend` is on the PATH of its jobs."""
    with TemporaryDirectory(prefix="ray") as folder:
        port, drivers = free_port(), free_port()
        token, address = os.urandom(32).hex(), f"127.0.0.1:{drivers}"
        head = RayHead(f"http://127.0.0.1:{port}", token, Path(folder), address)
        log = Path(folder) / "start.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
                    *("--num-cpus", "1", "--num-gpus", "0", "--temp-dir", folder),
                    *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(port)),
                    *("--port", str(drivers), "--node-ip-address", "127.0.0.1"),
                    *("--ray-client-server-port", str(free_port())),
                    *("--dashboard-agent-listen-port", str(free_port())),
                    *("--dashboard-agent-grpc-port", str(free_port())),
                    *("--runtime-env-agent-port", str(free_port())),
                    *("--metrics-export-port", str(free_port())),
                    *("--min-worker-port", "0", "--max-worker-port", "0"),
                    *("--object-store-memory", "100000000", "--disable-usage-stats"),
                ],
                env=_environment(head.token),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait(head, process, log)
            yield head
            assert process.poll() is None, f"the head ended: {log.read_text()[-3000:]}"
        finally:
            _end(process)


@contextmanager
def ray_worker(head: RayHead) -> Iterator[None]:
    """Another node of the cluster, on this machine: it has joined inside the block."""
    before = len(head.connection().nodes())
    log = head.folder / "worker.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
                *("--address", head.address, "--num-cpus", "1", "--num-gpus", "0"),
                *("--node-ip-address", "127.0.0.1"),
                *("--dashboard-agent-listen-port", str(free_port())),
                *("--dashboard-agent-grpc-port", str(free_port())),
                *("--runtime-env-agent-port", str(free_port())),
                *("--metrics-export-port", str(free_port())),
                *("--min-worker-port", "0", "--max-worker-port", "0"),
                *("--object-store-memory", "100000000", "--disable-usage-stats"),
            ],
            env=_environment(head.token),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + START_SECONDS
        while len(head.connection().nodes()) <= before:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.5)
        yield
    finally:
        _end(process)


def _environment(token: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **ours,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
    }


def _wait(head: RayHead, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the dashboard answers and knows the agent that hands out its files."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            connection = head.connection()
            connection.client.list_jobs()
            for node in connection.nodes():
                connection.get("/api/v0/logs", {"node_id": node.node_id})
                return
        except (UserError, RuntimeError):
            pass
        time.sleep(0.5)
    raise AssertionError(f"no dashboard within {START_SECONDS} s: {log.read_text()[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    mine = _descendants(process.pid)
    process.terminate()
    try:
        process.wait(timeout=60)
    finally:
        for pid in mine:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found
