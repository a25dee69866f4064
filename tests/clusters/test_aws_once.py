"""`clusters/aws_once.py` on a simulated AWS: what it makes is what cluster.yaml names, no more."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from clusters import aws_once
from tests.clusters.clouds import BUCKET, REGION, SSH_FROM, read

HERE = ["--region", REGION, "--bucket", BUCKET, "--ssh-from", SSH_FROM]


def group() -> dict[str, Any]:
    filters = [{"Name": "group-name", "Values": [aws_once.GROUP]}]
    (found,) = boto3.client("ec2", REGION).describe_security_groups(Filters=filters)[
        "SecurityGroups"
    ]
    return found


def opened_to() -> list[tuple[str, int | None, list[str]]]:
    """Protocol, port and addresses of every rule that lets somebody in from outside."""
    return [
        (rule["IpProtocol"], rule.get("FromPort"), [r["CidrIp"] for r in rule["IpRanges"]])
        for rule in group()["IpPermissions"]
        if rule["IpRanges"]
    ]


def rights(role: str) -> list[dict[str, Any]]:
    policy = boto3.client("iam").get_role_policy(RoleName=role, PolicyName=role)
    return policy["PolicyDocument"]["Statement"]


def test_only_ssh_from_one_address_comes_in(aws: None) -> None:
    assert opened_to() == [("tcp", 22, [SSH_FROM])]


def test_the_clusters_machines_reach_each_other(aws: None) -> None:
    inside = [rule for rule in group()["IpPermissions"] if rule["UserIdGroupPairs"]]
    assert [rule["IpProtocol"] for rule in inside] == ["-1"]
    assert [pair["GroupId"] for pair in inside[0]["UserIdGroupPairs"]] == [group()["GroupId"]]


def test_a_second_run_takes_the_old_address_back(empty_aws: None) -> None:
    for mine in (SSH_FROM, "198.51.100.0/24"):
        aws_once.make_all(REGION, BUCKET, mine, cluster="foldblend", vpc=None)
    assert opened_to() == [("tcp", 22, ["198.51.100.0/24"])]


def test_workers_may_use_the_bucket_and_nothing_else(aws: None) -> None:
    for statement in rights(aws_once.WORKER):
        assert all(action.startswith("s3:") for action in statement["Action"])
        assert statement["Resource"].split("/")[0] == f"arn:aws:s3:::{BUCKET}"


def test_the_head_may_end_machines_of_this_cluster_only(aws: None) -> None:
    (ending,) = [s for s in rights(aws_once.HEAD) if "ec2:TerminateInstances" in s["Action"]]
    assert ending["Condition"] == {
        "StringEquals": {"ec2:ResourceTag/ray-cluster-name": read("cluster.yaml")["cluster_name"]}
    }


def test_the_head_may_tag_new_machines_and_its_own_but_no_others(aws: None) -> None:
    """Whoever may tag any machine may make it look like the cluster's, and end it."""
    tagging = [s for s in rights(aws_once.HEAD) if "ec2:CreateTags" in str(s["Action"])]
    own = {"ec2:ResourceTag/ray-cluster-name": read("cluster.yaml")["cluster_name"]}
    assert [(s["Action"], s["Resource"], s["Condition"]) for s in tagging] == [
        ("ec2:CreateTags", "*", {"StringEquals": {"ec2:CreateAction": "RunInstances"}}),
        ("ec2:CreateTags", "arn:aws:ec2:*:*:instance/*", {"StringEquals": own}),
    ]


def test_the_head_may_hand_on_the_workers_role_only(aws: None) -> None:
    (handing,) = [s for s in rights(aws_once.HEAD) if s["Action"] == "iam:PassRole"]
    assert handing["Resource"].endswith(f":role/{aws_once.WORKER}")


def test_every_role_has_a_profile_of_its_name(aws: None) -> None:
    for name in (aws_once.HEAD, aws_once.WORKER):
        profile = boto3.client("iam").get_instance_profile(InstanceProfileName=name)
        assert [role["RoleName"] for role in profile["InstanceProfile"]["Roles"]] == [name]


def test_cluster_yaml_names_what_is_made() -> None:
    written = read("cluster.yaml")
    assert written["provider"]["security_group"] == {"GroupName": aws_once.GROUP}
    profiles = {
        name: kind["node_config"]["IamInstanceProfile"]["Name"]
        for name, kind in written["available_node_types"].items()
    }
    assert profiles.pop("head") == aws_once.HEAD
    assert set(profiles.values()) == {aws_once.WORKER}


def test_the_bucket_is_closed_to_the_public(aws: None) -> None:
    block = boto3.client("s3").get_public_access_block(Bucket=BUCKET)
    assert set(block["PublicAccessBlockConfiguration"].values()) == {True}


def test_the_command_prints_the_image_of_the_region(
    empty_aws: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # moto carries no deep-learning image of its own.
    monkeypatch.setattr(aws_once, "image_of", lambda region: "ami-0123456789abcdef0")
    aws_once.main(HERE)
    assert f"ImageId for cluster.yaml in {REGION}: ami-0123456789abcdef0" in capsys.readouterr().out


def test_the_whole_internet_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        aws_once.main([*HERE[:-1], "0.0.0.0/0"])
    assert "lets too many in" in capsys.readouterr().err


def test_what_aws_refuses_is_one_line(empty_aws: None) -> None:
    # moto has no image under AWS's name for it, as AWS in a region without such images.
    with pytest.raises(SystemExit, match=r"^error: .*ParameterNotFound"):
        aws_once.main(HERE)


def test_the_documents_are_what_aws_takes() -> None:
    for statements in (
        aws_once.bucket_rights("b"),
        aws_once.head_rights("b", "arn:aws:iam::1:role/w", "c"),
    ):
        for statement in json.loads(json.dumps(statements)):
            assert statement["Effect"] == "Allow"
            assert set(statement) <= {"Effect", "Action", "Resource", "Condition"}
