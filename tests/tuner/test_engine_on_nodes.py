"""A search on a real Ray of several nodes, of which one joins late and is lost again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster
from rich.console import Console

from tests.conftest import TinyImages
from tests.own_process import without_tokens
from tests.tuner.test_engine_on_ray import Watched, images, overrides, watch
from tuner import events as ev
from tuner.journal import Record
from tuner.race import FoldRun, Status
from tuner.study import search

pytestmark = pytest.mark.slow

__all__ = ["images"]

# Ray notices within seconds, not half a minute, that a node is gone.
QUICK_TO_NOTICE = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
EPOCHS = 8


class ComesAndGoes:
    """A second node: joins at the first result, is killed when its own first result is in. Until
    then results are taken slowly, so that there is work left for it."""

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
        if not self.was_killed:
            time.sleep(1.0)


@dataclass(frozen=True)
class Ended:
    """What a search left."""

    was_killed: bool
    records: tuple[Record, ...]
    runs: tuple[FoldRun, ...]
    has_blend: bool


def story(images: TinyImages, folder: Path) -> Ended:
    """The search, on a head that takes one fold run at a time and a node that comes and goes."""
    few = ("search.budget.configurations=4", "search.promotion.members=2")
    more = ("search.resources.slots=null", "search.pruning.enabled=false", *few)
    with pytest.MonkeyPatch.context() as patch:
        head = {"num_cpus": 1, "_system_config": QUICK_TO_NOTICE}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            guest = ComesAndGoes(cluster)
            watch(patch, Watched(on_result=guest))
            patch.delenv("RAY_OVERRIDE_RESOURCES")
            patch.setenv("RAY_ADDRESS", cluster.address)
            arguments = overrides(images, folder, f"train.epochs={EPOCHS}", *more)
            outcome = search(arguments, console=Console(quiet=True))
        finally:
            cluster.shutdown()
    stored = outcome.stored
    runs = tuple(stored.race.runs.values())
    return Ended(guest.was_killed, stored.records, runs, outcome.blend is not None)


def most_at_once(records: tuple[Record, ...]) -> int:
    running: set[tuple[str, int]] = set()
    most = 0
    for record in records:
        match record.event:
            case ev.Started(config_id, fold):
                running.add((config_id, fold))
            case ev.Finished(config_id, fold) | ev.Failed(config_id, fold):
                running.discard((config_id, fold))
        most = max(most, len(running))
    return most


def test_a_node_that_joins_gets_fold_runs_and_when_it_is_lost_nothing_is(
    images: TinyImages, tmp_path: Path
) -> None:
    ended: Ended = without_tokens(story, images, tmp_path)
    assert ended.was_killed
    assert most_at_once(ended.records) == 2
    lost = [one.event for one in ended.records if isinstance(one.event, ev.Failed)]
    assert [event.node_lost for event in lost] == [True], lost
    assert {run.status for run in ended.runs} == {Status.FINISHED}
    assert [run.failures for run in ended.runs] == [0] * len(ended.runs)
    assert sum(run.losses for run in ended.runs) == 1
    assert all(len(run.values) == EPOCHS for run in ended.runs), "no epoch is counted twice"
    assert ended.has_blend
