"""The on-premises cluster of `clusters/onprem.yaml` on hosts of a test, as a user drives it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.hosts.hosts import Host, Hosts
from tests.hosts.patience import until

ROOT = Path(__file__).resolve().parents[2]
# Seconds instead of a minute until a silent host is given up, and until a worker ends without head.
SETTINGS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    "RAY_gcs_server_request_timeout_seconds": "20",
    "AUTOSCALER_HEARTBEAT_TIMEOUT_S": "15",
}
# Ray gives itself 30 seconds to start, which a busy machine of two cores may exceed.
TRIES = 3
# No variable of Ray's is set by hand, as README says none must be; this one only saves a question.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}


class Cluster:
    """`file` is the copy of the user's file; the first of the hosts is the head."""

    def __init__(self, hosts: Hosts, file: Path) -> None:
        self.hosts, self.file = hosts, file
        self.head, self.workers = hosts.others[0], hosts.others[1:]
        self.laptop = hosts.laptop
        file.write_text(yaml.safe_dump(_copy(hosts), sort_keys=False))
        self.laptop.run("ray", "get-auth-token", "--generate", env=ENVIRONMENT)

    def call(
        self,
        *command: object,
        check: bool = True,
        on: Host | None = None,
        env: Mapping[str, str] | None = None,
        timeout_seconds: float = 180.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the laptop, or on another host."""
        values = {**ENVIRONMENT, **(env or {})}
        host = on or self.laptop
        return host.run(*command, env=values, check=check, timeout_seconds=timeout_seconds)

    def up(self) -> None:
        """`ray up`, until every worker has joined."""
        for _ in range(TRIES):
            done = self.call("ray", "up", "-y", self.file, check=False)
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stdout
        count = len(self.hosts.others)
        until(lambda: self.alive() == count, "not every worker joined", self.why, every_seconds=3)

    def down(self) -> None:
        self.call("ray", "down", "-y", self.file)

    @contextmanager
    def tunnel(self) -> Iterator[None]:
        """`ray dashboard` in a second terminal of the laptop."""
        log = self.hosts.key.parent / "tunnel.log"
        process = self.laptop.start("ray", "dashboard", self.file, log=log, env=ENVIRONMENT)
        try:
            url = "http://127.0.0.1:8265/api/gcs_healthz"
            ask = f"import urllib.request as u; u.urlopen('{url}', timeout=2)"
            python = (sys.executable, "-c", ask)
            until(
                lambda: self.laptop.run(*python, check=False).returncode == 0,
                "the tunnel does not open",
                log.read_text,
            )
            yield
        finally:
            process.terminate()
            process.wait()

    def alive(self) -> int:
        """How many hosts Ray has."""
        script = (
            "import json; from ray._raylet import GcsClient; "
            f"nodes = GcsClient('{self.head.address}:6379').get_all_node_info(timeout=10); "
            "print(sum(node.state == 0 for node in nodes.values()))"
        )
        token = {"RAY_AUTH_MODE": "token"}
        done = self.call(sys.executable, "-c", script, on=self.head, env=token, check=False)
        last = done.stdout.split()[-1:]
        return int(last[0]) if last and last[0].isdigit() else 0

    def why(self) -> str:
        """What a person would read when something does not come."""
        names = ("monitor.out", "monitor.log")
        script = f"cd /tmp/ray/session_latest/logs && tail -n 30 {' '.join(names)}"
        return self.head.run("sh", "-c", script, check=False).stdout


def _copy(hosts: Hosts) -> dict[str, Any]:
    """The user's file with this place's hosts and key, foldblend as it is installed here, workers
    of one CPU, and less patience with a silent one. All else is as a user has it."""
    written: dict[str, Any] = yaml.safe_load((ROOT / "clusters" / "onprem.yaml").read_text())
    head, *workers = (host.address for host in hosts.others)
    written["provider"] |= {"head_ip": head, "worker_ips": workers}
    written["auth"] = {"ssh_user": "root", "ssh_private_key": str(hosts.key)}
    written |= {"min_workers": len(workers), "max_workers": len(workers)}
    programs = " ".join(str(Path(sys.prefix) / "bin" / name) for name in ("ray", "foldblend"))
    written["file_mounts"] = {"~/.ray/auth_token": "~/.ray/auth_token"}
    written["setup_commands"] = [
        "chmod 600 ~/.ray/auth_token",
        f"ln -sf {programs} /usr/local/bin/",
        "grep -qs RAY_AUTH_MODE ~/.bashrc || echo 'export RAY_AUTH_MODE=token' >> ~/.bashrc",
    ]
    for kind in ("head", "worker"):
        written.pop(f"{kind}_setup_commands", None)
        key = f"{kind}_start_ray_commands"
        written[key] = [_smaller(command, kind) for command in written[key]]
    return written


def _smaller(command: str, kind: str) -> str:
    if "ray start" not in command:
        return command
    settings = " ".join(f"{name}={value}" for name, value in SETTINGS.items())
    size = f"--object-store-memory=150000000 --num-cpus={1 if kind == 'worker' else 0}"
    return command.replace("ray start", f"env {settings} ray start {size}", 1)
