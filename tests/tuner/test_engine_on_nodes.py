"""A search on a real Ray of several nodes, of which one joins late and is lost again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster
from rich.console import Console

from tests.conftest import TinyImages
from tests.tuner.test_engine_on_ray import Watched, images, overrides, watch
from tuner import events as ev
from tuner.race import Status
from tuner.study import Outcome, search

pytestmark = pytest.mark.slow

__all__ = ["images"]

# Ray notices within seconds, not half a minute, that a node is gone.
QUICK_TO_NOTICE = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head that takes one fold run at a time."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # these nodes trust each other: 127.0.0.1
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "_system_config": QUICK_TO_NOTICE},
    )
    try:
        yield cluster
    finally:
        cluster.shutdown()


class ComesAndGoes:
    """A second node: joins at the first result, is killed when its own first result is in."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.first_pid: int | None = None
        self.node: Any = None
        self.was_killed = False

    def __call__(self, task: Any, values: dict[str, Any]) -> None:
        if self.first_pid is None:
            self.first_pid = values["pid"]
            self.node = self.cluster.add_node(num_cpus=1)
        elif values["pid"] != self.first_pid and not self.was_killed:
            self.was_killed = True
            self.cluster.remove_node(self.node, allow_graceful=False)


def most_at_once(outcome: Outcome) -> int:
    running: set[tuple[str, int]] = set()
    most = 0
    for record in outcome.stored.records:
        match record.event:
            case ev.Started(config_id, fold):
                running.add((config_id, fold))
            case ev.Finished(config_id, fold) | ev.Failed(config_id, fold):
                running.discard((config_id, fold))
        for decision in record.decisions:
            if isinstance(decision, ev.Prune | ev.Stop):
                running.discard((decision.config_id, decision.fold))
        most = max(most, len(running))
    return most


def slowed(on_result: Callable[..., None]) -> Callable[..., None]:
    """Long enough for a node to join while there is work left."""

    def call(task: Any, values: dict[str, Any]) -> None:
        on_result(task, values)
        time.sleep(0.5)

    return call


def test_a_node_that_joins_gets_fold_runs_and_when_it_is_lost_nothing_is(
    images: TinyImages, tmp_path: Path, cluster: Cluster
) -> None:
    guest = ComesAndGoes(cluster)
    few = ("search.budget.configurations=4", "search.promotion.members=2")
    more = ("search.resources.slots=null", "train.epochs=4", "search.pruning.enabled=false", *few)
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, Watched(on_result=slowed(guest)))
        patch.delenv("RAY_OVERRIDE_RESOURCES")
        patch.setenv("RAY_ADDRESS", cluster.address)
        outcome = search(overrides(images, tmp_path, *more), console=Console(quiet=True))
    assert guest.was_killed
    assert most_at_once(outcome) == 2
    lost = [one.event for one in outcome.stored.records if isinstance(one.event, ev.Failed)]
    assert [event.node_lost for event in lost] == [True]
    runs = outcome.stored.race.runs.values()
    assert {run.status for run in runs} == {Status.FINISHED}
    assert [run.failures for run in runs] == [0] * len(runs)
    assert sum(run.losses for run in runs) == 1
    assert all(len(run.values) == 4 for run in runs), "no epoch is counted twice"
    assert outcome.blend is not None
