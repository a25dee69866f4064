"""The edge to Ray Tune: which actors are kept warm, and how a cluster that changes is followed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.utils.object_cache import _ObjectCache

from search_spaces.space import Study
from tests.tuner.make_believe import Search
from tests.tuner.test_ray_edge import Tune, study
from tuner.ray_edge import widen

__all__ = ["study"]


def test_no_waiting_trial_is_preferred(study: Study, tmp_path: Path) -> None:
    """Tune would move it onto an idle actor and end the actor that was being made for it."""
    pending = SimpleNamespace(status="PENDING")
    controller = SimpleNamespace(get_trials=lambda: [pending])
    assert Tune(Search(tmp_path, study)).scheduler.choose_trial_to_run(controller) is None


def test_when_the_search_is_stopped_trials_without_a_machine_end_at_once(
    study: Study, tmp_path: Path
) -> None:
    ended: list[Any] = []
    trials = [SimpleNamespace(status=one) for one in ("RUNNING", "PENDING", "TERMINATED")]
    controller = SimpleNamespace(
        get_trials=lambda: trials, _tune_controller=SimpleNamespace(stop_trial=ended.append)
    )
    tune = Tune(Search(tmp_path, study), slots=2)
    tune.scheduler.choose_trial_to_run(controller)
    assert not ended
    tune.conductor.stop()
    tune.scheduler.choose_trial_to_run(controller)
    assert ended == [trials[1]], "what runs ends its epoch first"


def controller_with(cache: _ObjectCache) -> Any:
    return SimpleNamespace(_tune_controller=SimpleNamespace(_actor_cache=cache))


def test_as_many_idle_actors_are_kept_as_there_are_slots(study: Study, tmp_path: Path) -> None:
    """Against Ray's own cache: alone it keeps one, and ends every other that idles."""
    need = PlacementGroupFactory([{"CPU": 1.0}])
    trial: Any = SimpleNamespace(placement_group_factory=need, trial_id="t")
    alone, kept = _ObjectCache(), _ObjectCache()
    scheduler = Tune(Search(tmp_path, study), slots=3).scheduler
    for _ in range(5):  # told of every new trial, it asks once
        scheduler.on_trial_add(controller_with(kept), trial)
    assert [alone.cache_object(need, n) for n in range(4)] == [True, False, False, False]
    assert [kept.cache_object(need, n) for n in range(4)] == [True, True, True, False]
    assert list(kept.flush_cached_objects()) == []
    assert len(list(kept.flush_cached_objects(force_all=True))) == 3


def test_when_the_cluster_grows_tune_asks_ahead_for_more_and_keeps_more(
    study: Study, tmp_path: Path
) -> None:
    need, asked = PlacementGroupFactory([{"CPU": 1.0}]), []
    trial: Any = SimpleNamespace(placement_group_factory=need, trial_id="t")
    controller = controller_with(cache := _ObjectCache())
    controller._tune_controller.update_max_pending_trials = asked.append
    tune = Tune(Search(tmp_path, study), slots=1)
    tune.scheduler.on_trial_add(controller, trial)
    for count in (3, 2):
        tune.conductor.slots.count = count
        tune.scheduler.choose_trial_to_run(controller)
    assert asked == [1, 3]
    assert [cache.cache_object(need, n) for n in range(4)] == [True, True, True, False]


def test_a_machine_that_joins_gets_work_and_one_that_leaves_is_waited_for(
    study: Study, tmp_path: Path
) -> None:
    tune = Tune(Search(tmp_path, study))
    room = [1]
    tune.conductor.slots.measure, tune.conductor.slots.pause = lambda: room[0], 0.0
    assert isinstance(tune.suggest(), dict)
    assert tune.suggest() is None
    room[0] = 2
    assert isinstance(tune.suggest(), dict)
    room[0] = 1
    assert tune.suggest() is None


def test_a_tune_that_works_otherwise_is_left_alone() -> None:
    widen(SimpleNamespace(), None, 0, 2)
