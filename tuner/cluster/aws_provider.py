"""The AWS machines of `cluster.yaml`: spot first, on demand where AWS has no spot machine to give.

Ray's own provider asks again and again for the spot machine that AWS has just refused: its
autoscaler lowers a type only when a machine came and Ray never ran on it, not when none came. Ray
loads this class by the name in `cluster.yaml`, on the laptop and on the head; nothing else in
foldblend imports it.
"""

from __future__ import annotations

import copy
import threading
from typing import Any

from ray.autoscaler._private.aws.config import (
    SECURITY_GROUP_TEMPLATE,
    _configure_from_launch_template,
    _configure_from_network_interfaces,
    _configure_subnet,
    _get_vpc_id_or_die,
)
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider, make_ec2_resource
from ray.autoscaler._private.cli_logger import cli_logger
from ray.autoscaler._private.constants import BOTO_MAX_RETRIES
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import TAG_RAY_CLUSTER_NAME

# EC2's words for "no spot machine now", the price included. `Unsupported` is what the last
# availability zone says where it does not have this type at all.
NO_SPOT = frozenset(
    {
        "InsufficientInstanceCapacity",
        "MaxSpotInstanceCountExceeded",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
        "Unsupported",
    }
)
MARKET_TAG = "foldblend-market"
ON_DEMAND = "on-demand"


class AWSProvider(AWSNodeProvider):
    """Ray's AWS provider with a bounded fallback. Its own key in `cluster.yaml`:
    `provider.on_demand_fallback`, how many on-demand workers may stand in at once (default 0)."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._fallback = threading.Lock()

    def create_node(
        self, node_config: dict[str, Any], tags: dict[str, str], count: int
    ) -> dict[str, Any]:
        """Launch up to `count` machines; instances by their id. NodeLaunchException as Ray's own,
        when AWS gives neither spot nor as many on-demand machines as may still stand in."""
        try:
            return super().create_node(node_config, tags, count)
        except NodeLaunchException as refused:
            if "InstanceMarketOptions" not in node_config or refused.category not in NO_SPOT:
                raise
            # One at a time: several launches counting together would all find the same room.
            with self._fallback:
                room = min(count, self._on_demand_room())
                if room < 1:
                    raise
                cli_logger.warning(
                    "No spot {} ({}): {} on demand instead.",
                    node_config.get("InstanceType"),
                    refused.category,
                    room,
                )
                return super().create_node(on_demand(node_config), tags, room)

    def _on_demand_room(self) -> int:
        standing_in = self.ec2.instances.filter(
            Filters=[
                {"Name": "instance-state-name", "Values": ["pending", "running"]},
                {"Name": f"tag:{TAG_RAY_CLUSTER_NAME}", "Values": [self.cluster_name]},
                {"Name": f"tag:{MARKET_TAG}", "Values": [ON_DEMAND]},
            ]
        )
        return int(self.provider_config.get("on_demand_fallback", 0)) - len(list(standing_in))

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """Ray's own, once a security group with rules is there: without one, Ray makes a group
        that lets the whole internet reach port 22. Aborts in one line where there is none."""
        refuse_open_group(cluster_config)
        return AWSNodeProvider.bootstrap_config(cluster_config)


def on_demand(node_config: dict[str, Any]) -> dict[str, Any]:
    """The same machine without spot, tagged so that it can be counted and seen on a bill."""
    plain = {key: value for key, value in node_config.items() if key != "InstanceMarketOptions"}
    tag = {"ResourceType": "instance", "Tags": [{"Key": MARKET_TAG, "Value": ON_DEMAND}]}
    return {**plain, "TagSpecifications": [*node_config.get("TagSpecifications", []), tag]}


def refuse_open_group(cluster_config: dict[str, Any]) -> None:
    """Abort when Ray would make the security group itself, or fill an empty one."""
    provider = cluster_config["provider"]
    default = SECURITY_GROUP_TEMPLATE.format(cluster_config["cluster_name"])
    name = provider.get("security_group", {}).get("GroupName", default)
    ec2 = make_ec2_resource(
        provider["region"], BOTO_MAX_RETRIES, provider.get("aws_credentials", {})
    )
    for vpc in sorted(_vpcs_without_group(cluster_config, ec2)):
        here = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": [name]}]
        if not any(group.ip_permissions for group in ec2.security_groups.filter(Filters=here)):
            cli_logger.abort(
                f"{provider['region']} has no security group `{name}` with rules in {vpc}, where "
                "the machines go, and Ray would open port 22 to the whole internet; run `python "
                f"clusters/aws_once.py` with `--vpc {vpc}` (docs/cluster.md)"
            )


def _vpcs_without_group(cluster_config: dict[str, Any], ec2: Any) -> set[str]:
    """Where Ray puts the machines for which the file names no group: found out by Ray's own steps
    before it looks for groups, because its choice of subnets is not the default VPC's."""
    config = _configure_from_launch_template(copy.deepcopy(cluster_config))
    config = _configure_from_network_interfaces(config)
    kinds = [kind["node_config"] for kind in config["available_node_types"].values()]
    without = [kind for kind in kinds if "SecurityGroupIds" not in kind]
    if not without:
        return set()
    _configure_subnet(config)  # it writes SubnetIds into each of `kinds`
    return {_get_vpc_id_or_die(ec2, kind["SubnetIds"][0]) for kind in without}
