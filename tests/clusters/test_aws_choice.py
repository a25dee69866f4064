"""Which machines Ray's autoscaler asks for, given cluster.yaml and the fold runs that wait."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.clusters.clouds import read

# Node types as on the head, where Ray has added what it knows of the machines.
MEMORY_BYTES = {"head": 8 * 2**30, "gpu_4": 192 * 2**30, "gpu_8": 768 * 2**30}


@pytest.fixture(scope="module")
def config() -> Any:
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    written = copy.deepcopy(read("cluster.yaml"))
    for name, kind in written["available_node_types"].items():
        kind["resources"] = {**kind["resources"], "memory": int(MEMORY_BYTES[name] * 0.7)}
    return AutoscalingConfig(written, skip_content_hash=True)


def asked(config: Any, waiting: int, without: tuple[str, ...] = ()) -> dict[str, int]:
    """Machines for so many waiting fold runs, each a placement group as Tune makes them."""
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import GangResourceRequest

    kinds = config.get_node_type_configs()
    fold_run = ResourceRequestUtil.make({"CPU": 1, "GPU": 1})
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs={name: kind for name, kind in kinds.items() if name not in without},
            max_num_nodes=config.get_max_num_nodes(),
            gang_resource_requests=[
                GangResourceRequest(requests=[fold_run]) for _ in range(waiting)
            ],
            current_instances=[_head()],
        )
    )
    return {request.instance_type: request.count for request in reply.to_launch}


def _head() -> Any:
    from ray.autoscaler.v2.schema import AutoscalerInstance
    from ray.core.generated.autoscaler_pb2 import NodeState, NodeStatus
    from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

    return AutoscalerInstance(
        im_instance=Instance(
            instance_id="head",
            instance_type="head",
            status=Instance.RAY_RUNNING,
            node_kind=NodeKind.HEAD,
            cloud_instance_id="i-head",
            node_id="00",
        ),
        ray_node=NodeState(
            node_id=b"\x00",
            ray_node_type_name="head",
            total_resources={"memory": 1.0},
            available_resources={"memory": 1.0},
            status=NodeStatus.RUNNING,
        ),
        cloud_instance_id="i-head",
    )


@pytest.mark.parametrize(
    ("waiting", "machines"),
    [
        (0, {}),
        (1, {"gpu_4": 1}),
        (4, {"gpu_4": 1}),
        (5, {"gpu_4": 1, "gpu_8": 1}),
        (12, {"gpu_4": 1, "gpu_8": 1}),
        (40, {"gpu_4": 1, "gpu_8": 1}),
    ],
)
def test_the_smaller_type_comes_first_and_the_file_bounds_both(
    config: Any, waiting: int, machines: dict[str, int]
) -> None:
    assert asked(config, waiting) == machines


def test_the_larger_type_comes_where_it_is_the_only_one(config: Any) -> None:
    assert asked(config, 1, without=("gpu_4",)) == {"gpu_8": 1}
