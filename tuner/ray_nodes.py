"""The machines of a Ray cluster: those that live, and those that its autoscaler may fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
import yaml

from tuner.slots import Growth, Resources, growth_of

# Where `ray up` leaves the cluster's file on the head, which hands it to its autoscaler.
CLUSTER_FILE = Path("~/ray_bootstrap_config.yaml")


def living() -> list[Resources]:
    """What every living machine has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def growth(address: str) -> Growth | None:
    """What the autoscaler of the cluster at `address` (the head's host:port) may fetch. None where
    there is none, or where this machine is not its head and so cannot know."""
    if ray.util.get_node_ip_address() != address.rpartition(":")[0]:
        return None
    try:
        cluster: Any = yaml.safe_load(CLUSTER_FILE.expanduser().read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return growth_of(cluster) if isinstance(cluster, dict) else None
