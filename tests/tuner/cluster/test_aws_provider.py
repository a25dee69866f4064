"""Spot first, and a bounded number of on-demand machines where AWS refuses, on a simulated AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import TAG_RAY_NODE_KIND

from tests.clusters import clouds, machines
from tuner.cluster.aws_provider import MARKET_TAG, AWSProvider, on_demand, refuse_open_group

SPOT = {"InstanceMarketOptions": {"MarketType": "spot"}}
MACHINE = {"InstanceType": "g5.12xlarge", "ImageId": "ami-00000000000000000"}
TAGS = {TAG_RAY_NODE_KIND: "worker"}


@pytest.fixture
def subnet(tmp_path: Path) -> Iterator[str]:
    """One subnet of an otherwise empty simulated AWS."""
    import boto3

    with clouds.simulated_aws(tmp_path):
        subnets = boto3.client("ec2", clouds.REGION).describe_subnets()["Subnets"]
        yield subnets[0]["SubnetId"]


def provider(**settings: Any) -> AWSProvider:
    return AWSProvider(
        {"region": clouds.REGION, "cache_stopped_nodes": False, **settings}, "foldblend"
    )


def refuse_spot(
    provider: AWSProvider, code: str = "InsufficientInstanceCapacity"
) -> list[tuple[str, int]]:
    """No spot machine in this AWS; what it is asked for comes into the list."""
    asked: list[tuple[str, int]] = []
    really: Callable[..., Any] = provider.ec2_fail_fast.create_instances

    def create(**settings: Any) -> Any:
        market = "spot" if "InstanceMarketOptions" in settings else "on-demand"
        asked.append((market, settings["MaxCount"]))
        if market == "spot":
            raise ClientError({"Error": {"Code": code, "Message": "not now"}}, "RunInstances")
        return really(**settings)

    provider.ec2_fail_fast.create_instances = create
    return asked


def machine(subnet: str, **more: Any) -> dict[str, Any]:
    return {**MACHINE, "SubnetIds": [subnet], **more}


def markets(started: dict[str, Any]) -> list[str | None]:
    for instance in started.values():
        instance.reload()
    return [instance.instance_lifecycle for instance in started.values()]


def test_a_spot_machine_is_taken_where_there_is_one(subnet: str) -> None:
    started = provider(on_demand_fallback=2).create_node(machine(subnet, **SPOT), TAGS, 1)
    assert markets(started) == ["spot"]


def test_where_there_is_none_an_on_demand_machine_stands_in(subnet: str) -> None:
    ours = provider(on_demand_fallback=1)
    asked = refuse_spot(ours)
    started = ours.create_node(machine(subnet, **SPOT), TAGS, 1)
    assert markets(started) == [None]
    assert asked[-1] == ("on-demand", 1)
    assert set(asked[:-1]) == {("spot", 1)}
    (instance,) = started.values()
    assert {"Key": MARKET_TAG, "Value": "on-demand"} in instance.tags


def test_no_more_stand_in_than_the_file_allows(subnet: str) -> None:
    ours = provider(on_demand_fallback=2)
    asked = refuse_spot(ours)
    # This AWS gives one of the machines it is asked for, as the real one may.
    ours.create_node(machine(subnet, **SPOT), TAGS, 5)
    ours.create_node(machine(subnet, **SPOT), TAGS, 5)
    assert [most for market, most in asked if market == "on-demand"] == [2, 1]
    with pytest.raises(NodeLaunchException):
        ours.create_node(machine(subnet, **SPOT), TAGS, 1)


def test_one_that_went_makes_room_for_another(subnet: str) -> None:
    ours = provider(on_demand_fallback=1)
    refuse_spot(ours)
    (first,) = ours.create_node(machine(subnet, **SPOT), TAGS, 1)
    ours.terminate_node(first)
    assert len(ours.create_node(machine(subnet, **SPOT), TAGS, 1)) == 1


def test_without_the_setting_nothing_stands_in(subnet: str) -> None:
    ours = provider()
    asked = refuse_spot(ours)
    with pytest.raises(NodeLaunchException):
        ours.create_node(machine(subnet, **SPOT), TAGS, 1)
    assert set(asked) == {("spot", 1)}


def test_another_refusal_is_not_answered_with_money(subnet: str) -> None:
    ours = provider(on_demand_fallback=1)
    asked = refuse_spot(ours, "UnauthorizedOperation")
    with pytest.raises(NodeLaunchException):
        ours.create_node(machine(subnet, **SPOT), TAGS, 1)
    assert set(asked) == {("spot", 1)}


def test_on_demand_keeps_everything_but_the_market() -> None:
    before = {**MACHINE, **SPOT, "TagSpecifications": [{"ResourceType": "volume", "Tags": []}]}
    after = on_demand(before)
    assert "InstanceMarketOptions" not in after
    assert MACHINE.items() <= after.items()
    assert [tag["ResourceType"] for tag in after["TagSpecifications"]] == ["volume", "instance"]
    assert before["InstanceMarketOptions"] == SPOT["InstanceMarketOptions"]


def test_an_account_without_the_tight_group_is_left_alone(subnet: str) -> None:
    from click import ClickException

    with pytest.raises(ClickException, match=r"run `python clusters/aws_once\.py`"):
        AWSProvider.bootstrap_config(clouds.prepare(clouds.read("cluster.yaml")))
    assert machines.opened() == {}
    assert machines.described() == []


def group_in(vpc: str) -> str:
    """The tight group, in a VPC."""
    import boto3

    from clusters.aws_once import ensure_group

    return ensure_group(boto3.client("ec2", clouds.REGION), vpc, clouds.SSH_FROM)


@pytest.fixture
def other_vpc(subnet: str) -> tuple[str, str]:
    """A VPC beside the default one, and a subnet of it in which machines are reached."""
    import boto3

    ec2 = boto3.client("ec2", clouds.REGION)
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    made = ec2.create_subnet(
        VpcId=vpc, CidrBlock="10.9.0.0/24", AvailabilityZone=f"{clouds.REGION}a"
    )
    inside = made["Subnet"]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=inside, MapPublicIpOnLaunch={"Value": True})
    return vpc, inside


def test_a_group_in_another_vpc_than_the_machines_is_none(other_vpc: tuple[str, str]) -> None:
    from click import ClickException

    group_in(other_vpc[0])
    config = clouds.prepare(clouds.read("cluster.yaml"))
    with pytest.raises(ClickException, match=r"with rules in vpc-\w+, where the machines go"):
        refuse_open_group(config)
    for kind in config["available_node_types"].values():
        kind["node_config"]["SubnetIds"] = [other_vpc[1]]
    refuse_open_group(config)


def test_the_file_is_left_as_it_is(other_vpc: tuple[str, str]) -> None:
    import boto3

    from clusters.aws_once import default_vpc

    group_in(default_vpc(boto3.client("ec2", clouds.REGION)))
    config = clouds.prepare(clouds.read("cluster.yaml"))
    refuse_open_group(config)
    assert config == clouds.prepare(clouds.read("cluster.yaml"))


def test_groups_of_ones_own_are_taken_as_they_are(subnet: str) -> None:
    config = clouds.prepare(clouds.read("cluster.yaml"))
    for kind in config["available_node_types"].values():
        kind["node_config"]["SecurityGroupIds"] = ["sg-of-mine"]
    refuse_open_group(config)


def test_ray_alone_does_not_lower_a_type_that_aws_refuses() -> None:
    """Why this provider exists. Should Ray learn it, this fails, and the provider may go."""
    from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import (
        CloudResourceMonitor,
    )
    from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent

    monitor = CloudResourceMonitor()
    refused = InstanceUpdateEvent(
        new_instance_status=Instance.ALLOCATION_FAILED, instance_type="gpu_4"
    )
    monitor.notify([refused])
    assert monitor.get_recoverable_resource_availabilities() == {}
    assert monitor.get_resource_availabilities() == {}
