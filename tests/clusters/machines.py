"""What a simulated EC2 says about the machines and groups in it."""

from __future__ import annotations

from typing import Any

import boto3

from tests.clusters.clouds import REGION


def described(ids: list[str] | None = None) -> list[dict[str, Any]]:
    """Machines as EC2 knows them, all of them where no ids are given."""
    answer = boto3.client("ec2", REGION).describe_instances(InstanceIds=ids or [])
    return [machine for group in answer["Reservations"] for machine in group["Instances"]]


def tags(machine: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in machine["Tags"]}


def profile(machine: dict[str, Any]) -> str:
    return machine["IamInstanceProfile"]["Arn"].split("/")[-1]


def disks(machine: dict[str, Any]) -> list[tuple[str, int, str]]:
    ids = [disk["Ebs"]["VolumeId"] for disk in machine["BlockDeviceMappings"]]
    volumes = boto3.client("ec2", REGION).describe_volumes(VolumeIds=ids)["Volumes"]
    names = [disk["DeviceName"] for disk in machine["BlockDeviceMappings"]]
    return [(n, v["Size"], v["VolumeType"]) for n, v in zip(names, volumes, strict=True)]


def opened() -> dict[str, list[tuple[int | None, list[str]]]]:
    """Every security group that lets somebody in from outside: ports and addresses."""
    groups = boto3.client("ec2", REGION).describe_security_groups()["SecurityGroups"]
    rules = {
        group["GroupName"]: [
            (rule.get("FromPort"), [r["CidrIp"] for r in rule["IpRanges"]])
            for rule in group["IpPermissions"]
            if rule["IpRanges"]
        ]
        for group in groups
    }
    return {name: found for name, found in rules.items() if found}
