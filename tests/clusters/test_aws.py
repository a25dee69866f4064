"""`cluster.yaml` is what `ray up` accepts, and it keeps what docs/cluster.md promises.

Checked with Ray's own preparation and validation, the steps of `ray up` before it first calls AWS.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.clusters.clouds import ROOT, prepare, read

TOKEN = "~/.ray/auth_token"
PACKAGES = ("ensemble", "search_spaces", "trainables", "tuner")

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """The file as it is."""
    return read("cluster.yaml")


@pytest.fixture(scope="module")
def prepared(written: dict[str, Any]) -> dict[str, Any]:
    """The file with Ray's defaults filled in, as `ray up` goes on with it."""
    return prepare(written)


def workers(prepared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    types = prepared["available_node_types"]
    return {name: kind for name, kind in types.items() if name != prepared["head_node_type"]}


def commands(prepared: dict[str, Any], side: str) -> list[str]:
    """What is run once on a new node; Ray has merged the common commands into these."""
    return prepared[f"{side}_setup_commands"]


def starts(prepared: dict[str, Any]) -> list[str]:
    commands = prepared["head_start_ray_commands"] + prepared["worker_start_ray_commands"]
    return [command for command in commands if "ray start" in command]


def place(commands: list[str], part: str) -> int:
    """Where the one command that has `part` stands."""
    (index,) = [index for index, command in enumerate(commands) if part in command]
    return index


def test_ray_accepts_the_file(prepared: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared)


def test_ray_refuses_the_file_with_a_misspelt_key(prepared: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(ValidationError, match="idle_timeout"):
        validate_config({**prepared, "idle_timeout": 10})


def test_ray_finds_the_provider_by_the_name_in_the_file(prepared: dict[str, Any]) -> None:
    from ray.autoscaler._private.providers import _get_node_provider_cls

    from tuner.cluster.aws_provider import AWSProvider

    assert _get_node_provider_cls(prepared["provider"]) is AWSProvider


def test_ec2_knows_every_setting_of_every_machine(prepared: dict[str, Any]) -> None:
    from botocore.session import Session
    from botocore.validate import validate_parameters

    shape = Session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for kind in prepared["available_node_types"].values():
        validate_parameters({**kind["node_config"], "MinCount": 1, "MaxCount": 1}, shape)


def test_the_head_has_no_gpu_and_no_room_for_fold_runs(prepared: dict[str, Any]) -> None:
    head = prepared["available_node_types"][prepared["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0
    assert re.match(r"[mct]\d", head["node_config"]["InstanceType"])


def test_workers_are_spot_machines_with_gpus_that_exist_only_on_demand(
    prepared: dict[str, Any],
) -> None:
    assert sorted(kind["resources"]["GPU"] for kind in workers(prepared).values()) == [4, 8]
    for kind in workers(prepared).values():
        assert kind["min_workers"] == 0
        assert kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"


def test_the_number_of_machines_is_bounded_and_idle_ones_go(prepared: dict[str, Any]) -> None:
    assert 1 <= prepared["max_workers"] <= 10
    assert 1 <= prepared["idle_timeout_minutes"] <= 30
    assert prepared["provider"]["cache_stopped_nodes"] is False
    assert prepared["provider"]["on_demand_fallback"] <= prepared["max_workers"]
    for kind in workers(prepared).values():
        assert 1 <= kind["max_workers"] <= prepared["max_workers"]


def test_every_machine_has_the_same_image_and_a_disk_for_pytorch(prepared: dict[str, Any]) -> None:
    configs = [kind["node_config"] for kind in prepared["available_node_types"].values()]
    assert len({config["ImageId"] for config in configs}) == 1
    assert re.fullmatch(r"ami-[0-9a-f]{17}", configs[0]["ImageId"])
    for config in configs:
        (disk,) = config["BlockDeviceMappings"]
        assert disk["Ebs"]["VolumeSize"] >= 100


def test_every_node_starts_with_token_authentication(prepared: dict[str, Any]) -> None:
    assert len(starts(prepared)) == 2
    for command in starts(prepared):
        assert "RAY_AUTH_MODE=token ray start" in command
    assert prepared["file_mounts"][TOKEN] == TOKEN


def test_ray_is_stopped_before_it_is_started(prepared: dict[str, Any]) -> None:
    for side in ("head", "worker"):
        first, second = prepared[f"{side}_start_ray_commands"]
        assert first == "ray stop"
        assert "ray start" in second


def test_the_dashboard_listens_on_localhost_only(prepared: dict[str, Any]) -> None:
    hosts = re.findall(r"--dashboard-host[= ](\S+)", " ".join(starts(prepared)))
    assert hosts == ["127.0.0.1"]


def test_every_node_shows_its_metrics_on_the_same_port(prepared: dict[str, Any]) -> None:
    ports = re.findall(r"--metrics-export-port[= ](\d+)", " ".join(starts(prepared)))
    assert ports == ["8090", "8090"]


def test_the_file_opens_no_port(written: dict[str, Any]) -> None:
    """The rules are those of the named group, which clusters/aws_once.py makes."""
    assert written["provider"]["security_group"] == {"GroupName": "foldblend"}
    assert not written.get("docker")
    for kind in written["available_node_types"].values():
        assert not {"SecurityGroupIds", "SecurityGroups", "NetworkInterfaces"} & set(
            kind["node_config"]
        )


def test_credentials_of_a_machine_need_its_own_token(prepared: dict[str, Any]) -> None:
    for kind in prepared["available_node_types"].values():
        assert kind["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}


def test_what_pip_needs_is_mounted_and_installed_on_every_node(prepared: dict[str, Any]) -> None:
    mounts = {local: remote for remote, local in prepared["file_mounts"].items() if local != TOKEN}
    for local in ("pyproject.toml", "README.md", "clusters/local_disk.sh", *PACKAGES):
        assert mounts.pop(local) == f"~/foldblend/{local}"
        assert (ROOT / local).exists(), f"cluster.yaml mounts {local}, which is not here"
    assert mounts == {}
    for side in ("head", "worker"):
        assert any("pip install" in c and "~/foldblend" in c for c in commands(prepared, side))


def test_the_head_gets_a_ray_in_the_range_of_pyproject(prepared: dict[str, Any]) -> None:
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = {r.name: r for r in map(Requirement, project["dependencies"])}["ray"]
    (pinned,) = re.findall(r'"(ray\[\S+\]==\S+)"', " ".join(commands(prepared, "head")))
    asked = Requirement(pinned)
    assert asked.extras == allowed.extras
    assert allowed.specifier.contains(str(asked.specifier).removeprefix("=="))


def test_workers_get_the_versions_of_the_head(prepared: dict[str, Any]) -> None:
    (versions,) = prepared["cluster_synced_files"]
    head, worker = commands(prepared, "head"), commands(prepared, "worker")
    assert place(head, f"> {versions}") > place(head, "pip install")
    assert f"pip install -q -c {versions} " in worker[place(worker, "pip install")]


def test_a_worker_whose_gpu_pytorch_cannot_use_does_not_join(prepared: dict[str, Any]) -> None:
    worker = commands(prepared, "worker")
    assert place(worker, "torch.cuda.is_available()") > place(worker, "pip install")
    assert not any("cuda" in command for command in commands(prepared, "head"))


def test_workers_keep_their_cache_on_their_own_disks(prepared: dict[str, Any]) -> None:
    assert place(commands(prepared, "worker"), "local_disk.sh") >= 0
    assert not any("local_disk" in command for command in commands(prepared, "head"))


def test_ray_is_on_the_path_of_every_shell(prepared: dict[str, Any]) -> None:
    for side in ("head", "worker"):
        assert place(commands(prepared, side), "/usr/local/bin/") >= 0


def test_only_the_head_may_call_ec2(prepared: dict[str, Any]) -> None:
    assert any("boto3" in command for command in commands(prepared, "head"))
    assert not any("boto3" in command for command in commands(prepared, "worker"))
    for kind in workers(prepared).values():
        assert kind["node_config"]["IamInstanceProfile"] == {"Name": "foldblend-worker"}


@pytest.mark.parametrize("side", ["head", "worker"])
def test_every_command_is_bash(prepared: dict[str, Any], side: str) -> None:
    import subprocess

    for command in [*commands(prepared, side), *prepared[f"{side}_start_ray_commands"]]:
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert checked.returncode == 0, f"{command}: {checked.stderr}"
