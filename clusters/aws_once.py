"""Make once what cluster.yaml names on AWS: a security group, a bucket, the rights of the machines.

    python clusters/aws_once.py --region us-west-2 --bucket my-bucket --ssh-from 203.0.113.7/32

Run it again when your address changed, or to see the image of a region: what is there already
stays, and rules for other addresses are taken back. It needs credentials that may use EC2, IAM, S3.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

GROUP = "foldblend"
HEAD, WORKER = "foldblend-head", "foldblend-worker"
IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
MACHINES_OF_EC2 = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def bucket_rights(bucket: str) -> list[dict[str, Any]]:
    """Read and write one bucket: what a run directory needs of S3."""
    return [
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"],
            "Resource": f"arn:aws:s3:::{bucket}",
        },
        {
            "Effect": "Allow",
            "Action": [
                "s3:GetObject",
                "s3:PutObject",
                "s3:DeleteObject",
                "s3:AbortMultipartUpload",
                "s3:ListMultipartUploadParts",
            ],
            "Resource": f"arn:aws:s3:::{bucket}/*",
        },
    ]


def head_rights(bucket: str, worker_role: str, cluster: str) -> list[dict[str, Any]]:
    """The bucket, and what Ray's autoscaler asks of EC2: it may end the cluster's own machines
    only, and make none its own by a tag. `worker_role`: the ARN that it may hand to a worker."""
    own = {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": cluster}}
    return [
        *bucket_rights(bucket),
        {
            "Effect": "Allow",
            "Action": ["ec2:Describe*", "ec2:RunInstances"],
            "Resource": "*",
        },
        # Tags of what is just being made, and the states that Ray keeps in tags of its machines.
        {
            "Effect": "Allow",
            "Action": "ec2:CreateTags",
            "Resource": "*",
            "Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        },
        {
            "Effect": "Allow",
            "Action": "ec2:CreateTags",
            "Resource": "arn:aws:ec2:*:*:instance/*",
            "Condition": own,
        },
        {
            "Effect": "Allow",
            "Action": ["ec2:TerminateInstances", "ec2:StopInstances", "ec2:StartInstances"],
            "Resource": "*",
            "Condition": own,
        },
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": worker_role},
    ]


def ensure_group(ec2: Any, vpc: str, ssh_from: str) -> str:
    """The group's id. From outside only port 22 from `ssh_from`; inside, everything."""
    found = ec2.describe_security_groups(
        Filters=[
            {"Name": "group-name", "Values": [GROUP]},
            {"Name": "vpc-id", "Values": [vpc]},
        ]
    )["SecurityGroups"]
    if found:
        group, rules = found[0]["GroupId"], found[0]["IpPermissions"]
    else:
        made = ec2.create_security_group(
            GroupName=GROUP, Description="foldblend: ssh from one address", VpcId=vpc
        )
        group, rules = made["GroupId"], []
    wanted = [
        {
            "IpProtocol": "tcp",
            "FromPort": 22,
            "ToPort": 22,
            "IpRanges": [{"CidrIp": ssh_from}],
        },
        {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]},
    ]
    if rules:
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rules)
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=wanted)
    return group


def ensure_role(iam: Any, name: str, rights: list[dict[str, Any]]) -> str:
    """The role's ARN. The role, and an instance profile of the same name that carries it, have
    exactly `rights`."""
    try:
        role = iam.get_role(RoleName=name)["Role"]
    except iam.exceptions.NoSuchEntityException:
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(MACHINES_OF_EC2))[
            "Role"
        ]
    iam.put_role_policy(
        RoleName=name,
        PolicyName=name,
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": rights}),
    )
    try:
        profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    except iam.exceptions.NoSuchEntityException:
        profile = iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    if not profile["Roles"]:
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return role["Arn"]


def ensure_spot_role(iam: Any) -> None:
    """A new account's first spot request makes this role; the head may not, so it is made here."""
    try:
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("InvalidInput", "EntityAlreadyExists"):
            raise


def ensure_bucket(s3: Any, bucket: str, region: str) -> None:
    """The bucket, closed to the public. One that belongs to somebody else is an error."""
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        # S3 takes its oldest region as no location at all.
        where = {"LocationConstraint": region}
        s3.create_bucket(
            Bucket=bucket,
            **({} if region == "us-east-1" else {"CreateBucketConfiguration": where}),
        )
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration=dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"),
            True,
        ),
    )


def default_vpc(ec2: Any) -> str:
    """Where Ray puts the machines, unless another VPC has public subnets too: `ray up` names the
    one that it chose where the group is missing there."""
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        sys.exit("error: this region has no default VPC; give --vpc, and SubnetIds in cluster.yaml")
    return found[0]["VpcId"]


def address(text: str) -> str:
    """A CIDR of an address or a small network. `0.0.0.0/0` is refused: it is everybody."""
    network = ipaddress.ip_network(text, strict=False)
    if network.version != 4 or network.prefixlen < 8:
        raise argparse.ArgumentTypeError(
            f"expected your address such as 203.0.113.7/32, got {text}, which lets too many in"
        )
    return str(network)


def make_all(region: str, bucket: str, ssh_from: str, cluster: str, vpc: str | None) -> None:
    """Make everything and say what was made."""
    ec2, iam = boto3.client("ec2", region), boto3.client("iam", region)
    group = ensure_group(ec2, vpc or default_vpc(ec2), ssh_from)
    print(f"security group {GROUP} ({group}): ssh from {ssh_from}, nothing else from outside")
    ensure_bucket(boto3.client("s3", region), bucket, region)
    print(f"bucket {bucket}: closed to the public; a run goes to storage=s3://{bucket}/foldblend")
    worker = ensure_role(iam, WORKER, bucket_rights(bucket))
    ensure_role(iam, HEAD, head_rights(bucket, worker, cluster))
    ensure_spot_role(iam)
    print(f"roles {HEAD} and {WORKER}: this bucket; the head also the cluster's machines")


def image_of(region: str) -> str:
    """The newest image for cluster.yaml, as AWS publishes it."""
    return boto3.client("ssm", region).get_parameter(Name=IMAGE)["Parameter"]["Value"]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--region", required=True, help="as in cluster.yaml")
    parser.add_argument(
        "--bucket", required=True, help="for run directories; made if it is not there"
    )
    parser.add_argument("--ssh-from", required=True, type=address, help="your address, as CIDR")
    parser.add_argument("--cluster", default="foldblend", help="cluster_name in cluster.yaml")
    parser.add_argument("--vpc", help="where the machines go; default: the region's default VPC")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """The command. What AWS refuses is one line and exit code 1."""
    asked = parse(arguments)
    try:
        make_all(asked.region, asked.bucket, asked.ssh_from, asked.cluster, asked.vpc)
        print(f"ImageId for cluster.yaml in {asked.region}: {image_of(asked.region)}")
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
