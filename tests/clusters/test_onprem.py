"""`clusters/onprem.yaml` is what `ray up` accepts; tests with real hosts bring it up."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.clouds import ROOT, environment, prepare, read

TOKEN = "~/.ray/auth_token"

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def prepared() -> dict[str, Any]:
    return prepare(read("clusters/onprem.yaml"))


def start(prepared: dict[str, Any], side: str) -> str:
    (command,) = [c for c in prepared[f"{side}_start_ray_commands"] if "ray start" in c]
    return command


def ports(command: str) -> dict[str, str]:
    return dict(re.findall(r"--(\S*port)=(\d+)", command))


def test_ray_accepts_the_file(prepared: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared)


def test_every_machine_named_is_kept_in_the_cluster(prepared: dict[str, Any]) -> None:
    (kind,) = prepared["available_node_types"].values()
    named = len(read("clusters/onprem.yaml")["provider"]["worker_ips"])
    assert (kind["min_workers"], kind["max_workers"]) == (named, named)


def test_ray_up_cannot_turn_the_new_autoscaler_on(prepared: dict[str, Any]) -> None:
    """`ray up` puts its exports before the command; the word before `ray start` wins over them."""
    from ray.autoscaler._private.util import with_envs

    asked = start(prepared, "head").replace("ray start", "env | grep ^RAY_enable #")
    (command,) = with_envs([asked], {"RAY_enable_autoscaler_v2": "1"})
    seen = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert seen.stdout == "RAY_enable_autoscaler_v2=0\n"


@pytest.mark.parametrize("side", ["head", "worker"])
def test_every_node_starts_with_token_authentication(prepared: dict[str, Any], side: str) -> None:
    assert "RAY_AUTH_MODE=token ray start" in start(prepared, side)
    assert prepared["file_mounts"][TOKEN] == TOKEN
    assert prepared["setup_commands"][0] == f"chmod 600 {TOKEN}"


def test_the_dashboard_listens_on_localhost_only(prepared: dict[str, Any]) -> None:
    commands = start(prepared, "head") + start(prepared, "worker")
    assert re.findall(r"--dashboard-host[= ](\S+)", commands) == ["127.0.0.1"]


def test_a_firewall_can_name_every_port(prepared: dict[str, Any]) -> None:
    """Ports that Ray would draw anew at every start are fixed, the same on every machine."""
    head, worker = ports(start(prepared, "head")), ports(start(prepared, "worker"))
    drawn = {
        "node-manager-port",
        "object-manager-port",
        "dashboard-agent-grpc-port",
        "dashboard-agent-listen-port",
        "runtime-env-agent-port",
        "metrics-export-port",
        "min-worker-port",
        "max-worker-port",
    }
    assert set(worker) == drawn
    assert {name: head[name] for name in drawn} == worker
    assert len(set(head.values())) == len(head)


def test_what_pip_needs_is_mounted(prepared: dict[str, Any]) -> None:
    mounts = {local: remote for remote, local in prepared["file_mounts"].items() if local != TOKEN}
    aws = read("cluster.yaml")["file_mounts"]
    assert set(mounts) == set(aws.values()) - {TOKEN, "clusters/local_disk.sh"}
    for local, remote in mounts.items():
        assert remote == f"~/foldblend/{local}"
        assert (ROOT / local).exists()


@pytest.mark.parametrize("side", ["head", "worker"])
def test_every_command_is_bash(prepared: dict[str, Any], side: str) -> None:
    commands = prepared[f"{side}_setup_commands"] + prepared[f"{side}_start_ray_commands"]
    for command in commands:
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert checked.returncode == 0, f"{command}: {checked.stderr}"


def test_nothing_on_the_machines_needs_root(prepared: dict[str, Any]) -> None:
    for side in ("head", "worker"):
        assert not any("sudo" in command for command in prepared[f"{side}_setup_commands"])


def test_ray_comes_onto_the_path_once(prepared: dict[str, Any], tmp_path: Path) -> None:
    (command,) = [c for c in prepared["setup_commands"] if ".bashrc" in c]
    home = environment(HOME=str(tmp_path))
    for _ in range(2):
        subprocess.run(["bash", "-c", command], env=home, check=True)
    assert len((tmp_path / ".bashrc").read_text().splitlines()) == 1
    show = "source ~/.bashrc; echo $RAY_AUTH_MODE ${PATH%%:*}"
    seen = subprocess.run(["bash", "-c", show], env=home, capture_output=True, text=True)
    assert seen.stdout.split() == ["token", f"{tmp_path}/venv-foldblend/bin"]


def test_the_same_ray_as_on_aws() -> None:
    def pinned(name: str) -> list[str]:
        return re.findall(r"ray\[\S+\]==[\d.]+", " ".join(read(name)["head_setup_commands"]))

    assert pinned("clusters/onprem.yaml") == pinned("cluster.yaml") != []
