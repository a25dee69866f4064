"""`cluster.yaml` brought up on a simulated AWS: what is asked of EC2, and what is never asked.

The tests call the steps of `ray up` and of the head's autoscaler themselves, inside a simulated
AWS. The command itself: test_aws_command.py.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from tests.clusters.clouds import REGION, SSH_FROM, prepare, read
from tests.clusters.machines import described, disks, opened, profile, tags

WORKERS = {"gpu_4": "g5.12xlarge", "gpu_8": "g5.48xlarge"}


@pytest.fixture(scope="module")
def filled(aws: None) -> dict[str, Any]:
    """The file without the workers' resources, and what Ray finds out about these machines."""
    from ray.autoscaler._private.aws import node_provider

    config = prepare(read("cluster.yaml"))
    for kind in WORKERS:
        config["available_node_types"][kind]["resources"] = {}
    with pytest.MonkeyPatch.context() as patch:
        # Ray asks for all of EC2's types, which takes the simulated one long.
        patch.setattr(node_provider, "list_ec2_instances", types_of_the_file)
        return node_provider.AWSNodeProvider.fillout_available_node_types_resources(config)


def types_of_the_file(*_asked: Any) -> list[dict[str, Any]]:
    wanted = [
        kind["node_config"]["InstanceType"]
        for kind in read("cluster.yaml")["available_node_types"].values()
    ]
    found = boto3.client("ec2", REGION).describe_instance_types(InstanceTypes=wanted)
    return found["InstanceTypes"]


@pytest.fixture(scope="module")
def bootstrapped(filled: dict[str, Any]) -> dict[str, Any]:
    """The file after all steps of `ray up` that come before the first machine."""
    from ray.autoscaler._private.util import validate_config

    from tuner.cluster.aws_provider import AWSProvider

    config = copy.deepcopy(filled)
    for kind in WORKERS:
        config["available_node_types"][kind]["resources"].update(told(kind)["resources"])
    validate_config(config)
    return AWSProvider.bootstrap_config(config)


def told(kind: str) -> dict[str, Any]:
    """A machine type as the file has it."""
    return read("cluster.yaml")["available_node_types"][kind]


def launch(config: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Let the head's autoscaler fetch a machine of this type; new machines as EC2 has them."""
    from ray.autoscaler._private.providers import _get_node_provider
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter

    read_once = AutoscalingConfig(copy.deepcopy(config), skip_content_hash=True)
    autoscaler = NodeProviderAdapter(
        v1_provider=_get_node_provider(config["provider"], config["cluster_name"]),
        config_reader=SimpleNamespace(get_cached_autoscaling_config=lambda: read_once),
    )
    before = {machine["InstanceId"] for machine in described()}
    autoscaler._launch_nodes_by_type(kind, 1, "a-request")
    assert autoscaler.poll_errors() == []
    return [machine for machine in described() if machine["InstanceId"] not in before]


@pytest.mark.parametrize(("kind", "machine"), WORKERS.items())
def test_a_worker_is_a_spot_machine_of_its_type(
    bootstrapped: dict[str, Any], kind: str, machine: str
) -> None:
    (started,) = launch(bootstrapped, kind)
    assert started["InstanceType"] == machine
    assert started["InstanceLifecycle"] == "spot"
    assert started["ImageId"] == told("head")["node_config"]["ImageId"]
    assert profile(started) == "foldblend-worker"
    assert disks(started) == [("/dev/sda1", 150, "gp3")]
    assert started["MetadataOptions"]["HttpTokens"] == "required"
    told_by_ray = {
        "Name": "ray-foldblend-worker",
        "ray-cluster-name": "foldblend",
        "ray-node-type": "worker",
        "ray-user-node-type": kind,
        "ray-launch-request": "a-request",
    }
    assert told_by_ray.items() <= tags(started).items()


def test_every_machine_is_in_the_tight_group_only(bootstrapped: dict[str, Any]) -> None:
    for kind in ("head", *WORKERS):
        (started,) = launch(bootstrapped, kind)
        assert [group["GroupName"] for group in started["SecurityGroups"]] == ["foldblend"]
    assert opened() == {"foldblend": [(22, [SSH_FROM])]}


def test_the_head_is_on_demand_with_rights_of_its_own(bootstrapped: dict[str, Any]) -> None:
    (started,) = launch(bootstrapped, "head")
    assert started["InstanceType"] == "m6i.large"
    assert "InstanceLifecycle" not in started
    assert profile(started) == "foldblend-head"


def test_the_resources_in_the_file_are_those_of_the_machines(filled: dict[str, Any]) -> None:
    for kind in WORKERS:
        found = filled["available_node_types"][kind]["resources"]
        assert {name: found[name] for name in told(kind)["resources"]} == told(kind)["resources"]
