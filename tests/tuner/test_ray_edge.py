from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.utils.util import flatten_dict

from search_spaces.space import Study
from tests.tuner.make_believe import Search, epochs_of, events_of, outcome, small_study, told
from trainables.failure import Failure
from trainables.machine_fault import HELD
from trainables.task import COMPLETE, EpochResult, FoldTask
from tuner import events as ev
from tuner.race import Status
from tuner.ray_edge import (
    Assignments,
    RaceScheduler,
    RaceSearcher,
    epoch_result,
    nested,
    trial_name,
)


class Tune:
    """Tune's side of the conversation as TuneController leads it, without actors: it asks the
    searcher, sends flattened results to the scheduler, and tells the searcher of every end."""

    def __init__(self, search: Search, slots: int = 1) -> None:
        search.slots = slots
        self.search, self.slots = search, slots
        self.conductor = search.begin()
        self.assignments = Assignments(self.conductor)
        self.searcher = RaceSearcher(self.assignments)
        self.scheduler = RaceScheduler(self.assignments)
        self.running: dict[str, Any] = {}
        self.asked = 0

    def suggest(self) -> Any:
        self.asked += 1
        trial_id = f"trial_{self.asked:05d}"
        config = self.searcher.suggest(trial_id)
        if isinstance(config, dict):
            task = FoldTask.from_dict(json.loads(json.dumps(config)))
            self.running[trial_id] = epochs_of(task)
        return config

    def step(self, trial_id: str) -> None:
        """One result of one trial; a `done` result goes to the searcher alone, as in Tune."""
        result = flat(next(self.running[trial_id]))
        trial = SimpleNamespace(trial_id=trial_id)
        if not result["done"]:
            decision = self.scheduler.on_trial_result(None, trial, result)
            if decision == TrialScheduler.CONTINUE:
                return
            result["done"] = True  # as Tune writes into the last result of what it stops
        del self.running[trial_id]
        self.searcher.on_trial_complete(trial_id=trial_id, result=result)

    def die(self, trial_id: str, error: object = None) -> None:
        """`Trial.handle_error` has written the error down before anybody hears of it."""
        del self.running[trial_id]
        file = self.search.folder / "error.txt"
        if error is not None:
            file.write_text(f"Failure # 1 (occurred at some time)\n{error}\n")
        trial: Any = SimpleNamespace(trial_id=trial_id, error_file=error and str(file))
        self.scheduler.on_trial_error(None, trial)
        self.searcher.on_trial_complete(trial_id=trial_id, error=True)

    def fit(self) -> Tune:
        while True:
            answer = self.suggest() if len(self.running) < self.slots else None
            if isinstance(answer, dict):
                continue
            if answer == Searcher.FINISHED and not self.running:
                return self
            for trial_id in list(self.running):
                self.step(trial_id)


def flat(result: EpochResult) -> dict[str, Any]:
    """A result as Tune hands it on, among keys of its own."""
    own = {"training_iteration": 7, "pid": 1, "trial_id": "x", "config": {"fold": 3}}
    return flatten_dict({**result.to_dict(), COMPLETE: result.done, **own})


@pytest.fixture(scope="module")
def study() -> Study:
    return small_study()


def test_through_the_edge_the_race_is_the_same_as_in_process(study: Study, tmp_path: Path) -> None:
    there, here = Search(tmp_path / "there", study), Search(tmp_path / "here", study)
    assert outcome(Tune(there).fit().conductor) == outcome(here.run())
    assert told(there) == told(here)


def test_nothing_is_suggested_while_every_slot_is_taken(study: Study, tmp_path: Path) -> None:
    tune = Tune(Search(tmp_path, study), slots=2)
    assert isinstance(tune.suggest(), dict)
    assert isinstance(tune.suggest(), dict)
    assert tune.suggest() is None


def test_the_end_is_said_when_the_race_is_over(study: Study, tmp_path: Path) -> None:
    tune = Tune(Search(tmp_path, study), slots=2).fit()
    assert tune.suggest() == Searcher.FINISHED
    assert not tune.assignments.tasks


def test_a_stopped_search_ends_its_trials_and_suggests_no_more(
    study: Study, tmp_path: Path
) -> None:
    tune = Tune(Search(tmp_path, study), slots=2)
    tune.suggest(), tune.suggest()
    tune.conductor.stop()
    for trial_id in list(tune.running):
        tune.step(trial_id)
    assert not tune.running
    assert tune.suggest() == Searcher.FINISHED
    assert not events_of(tune.search.records, ev.Failed)


def test_a_trial_that_nobody_waits_for_is_stopped(study: Study, tmp_path: Path) -> None:
    tune = Tune(Search(tmp_path, study))
    trial = SimpleNamespace(trial_id="of an earlier life")
    result = flat(EpochResult(1, {"log_loss": 0.5}))
    assert tune.scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP
    tune.searcher.on_trial_complete("of an earlier life", result=result)
    assert tune.search.records == []


# --- errors -------------------------------------------------------------------------------------


def failures(tune: Tune) -> list[str]:
    return [event.error for event in events_of(tune.search.records, ev.Failed)]


def test_a_dead_worker_is_told_once_and_its_fold_run_goes_on_elsewhere(
    study: Study, tmp_path: Path
) -> None:
    tune = Tune(Search(tmp_path, study))
    first = tune.suggest()
    tune.step("trial_00001")
    tune.die("trial_00001", ActorDiedError())
    assert failures(tune) == ["The actor died unexpectedly before finishing this task."]
    again = tune.suggest()
    assert (again["config_id"], again["fold"]) == (first["config_id"], 0)
    assert again["reported_epochs"] == 1
    assert tune.fit().conductor.race.members


@pytest.mark.parametrize(
    "died",
    [
        "The actor died because its node has died. Node Id: 0a1b\n\tterminated unexpectedly",
        # Where Ray has lost the connection and does not know yet that the node is gone.
        str(ActorUnavailableError("The actor is temporarily unavailable: RpcError: closed", None)),
    ],
)
def test_a_lost_machine_is_no_failure_of_the_fold_run(
    study: Study, tmp_path: Path, died: str
) -> None:
    tune = Tune(Search(tmp_path, study))
    config = tune.suggest()
    for trial in range(1, 6):  # more than the failures that a configuration may have
        tune.die(f"trial_{trial:05d}", died)
        again = tune.suggest()
        assert (again["config_id"], again["fold"]) == (config["config_id"], config["fold"])
    run = tune.conductor.race.runs[config["config_id"], 0]
    assert (run.failures, run.losses) == (0, 5)
    assert set(failures(tune)) == {"its machine was lost"}
    assert tune.fit().conductor.race.members


@pytest.mark.parametrize("error", [None, "\n"], ids=["no file", "no text"])
def test_an_error_without_a_text_is_still_an_error(
    study: Study, tmp_path: Path, error: str | None
) -> None:
    tune = Tune(Search(tmp_path, study))
    tune.suggest()
    tune.die("trial_00001", error)
    assert failures(tune) == ["the worker process died"]


def test_an_error_that_cannot_be_read_is_still_an_error(study: Study, tmp_path: Path) -> None:
    tune = Tune(Search(tmp_path, study))
    tune.suggest()
    trial: Any = SimpleNamespace(trial_id="trial_00001", error_file=str(tmp_path))
    tune.scheduler.on_trial_error(None, trial)
    assert failures(tune) == ["the worker process died"]


def test_of_a_traceback_the_error_itself_is_told(study: Study, tmp_path: Path) -> None:
    tune = Tune(Search(tmp_path, study))
    tune.suggest()
    text = (
        'ray::FoldTrainable.setup()\n  File "x.py", line 1, in setup\nImportError: no such thing\n'
    )
    tune.die("trial_00001", RayTaskError("setup", text, ImportError("no such thing")))
    assert failures(tune) == ["ImportError: no such thing"]


@pytest.mark.parametrize("kind", ["crash", "diverged"])
def test_a_failure_that_came_as_a_result_is_told_whole(
    study: Study, tmp_path: Path, kind: Any
) -> None:
    tune = Tune(Search(tmp_path, study))
    tune.suggest()
    result = {"failure": Failure(kind, "it broke", "Traceback …").to_dict(), "done": True}
    for _ in range(2):
        tune.searcher.on_trial_complete("trial_00001", result=flatten_dict(result))
    (event,) = events_of(tune.search.records, ev.Failed)
    assert (event.error, event.retry) == ("it broke", kind == "crash")


def test_a_fault_of_the_set_up_ends_the_search(study: Study, tmp_path: Path) -> None:
    tune = Tune(Search(tmp_path, study))
    tune.suggest()
    result = {"failure": Failure("fatal", "the disk is full").to_dict(), "done": True}
    tune.searcher.on_trial_complete("trial_00001", result=flatten_dict(result))
    assert tune.conductor.fatal is not None
    assert tune.suggest() == Searcher.FINISHED


@pytest.mark.parametrize(
    "result",
    [None, {"done": True}, flat(EpochResult(1, {"log_loss": 0.5}))],
    ids=["nothing", "no epoch", "an epoch too early"],
)
def test_a_trial_that_ends_without_its_result_is_tried_again_and_not_waited_for(
    study: Study, tmp_path: Path, result: dict[str, Any] | None
) -> None:
    tune = Tune(Search(tmp_path, study))
    tune.suggest()
    del tune.running["trial_00001"]
    tune.searcher.on_trial_complete("trial_00001", result=result)
    assert failures(tune) == ["the fold run ended without a result"]
    assert tune.fit().conductor.race.members


def test_a_fold_run_that_was_interrupted_is_not_taken_for_finished(
    study: Study, tmp_path: Path
) -> None:
    """Tune says `done` of it, as of every trial that it stops."""
    tune = Tune(Search(tmp_path, study))
    config = tune.suggest()
    tune.conductor.stop()
    tune.step("trial_00001")
    run = tune.conductor.race.runs[config["config_id"], 0]
    assert (run.status, run.epoch) == (Status.RUNNING, 1)


def test_a_trial_that_tune_ended_after_a_stop_is_no_failure(study: Study, tmp_path: Path) -> None:
    tune = Tune(Search(tmp_path, study))
    config = tune.suggest()
    tune.conductor.stop()
    tune.searcher.on_trial_complete("trial_00001", result=None)
    assert failures(tune) == []
    assert tune.conductor.race.runs[config["config_id"], 0].status is Status.RUNNING


# --- machines that cannot read the images -------------------------------------------------------


def held(tune: Tune, trial_id: str) -> str:
    """One more result of a trial whose machine cannot read the images."""
    failure = Failure("lost", "machine a cannot read the images: /data/a.jpg: gone")
    result = flatten_dict({"failure": failure.to_dict(), HELD: True, "done": False})
    decision = tune.scheduler.on_trial_result(None, SimpleNamespace(trial_id=trial_id), result)
    if decision == TrialScheduler.STOP:
        tune.searcher.on_trial_complete(trial_id, result=result | {"done": True})
    return str(decision)


def test_a_machine_without_the_images_keeps_its_slot_while_its_fold_run_goes_elsewhere(
    study: Study, tmp_path: Path
) -> None:
    tune = Tune(Search(tmp_path, study), slots=2)
    config = tune.suggest()
    del tune.running["trial_00001"]
    for _ in range(5):
        assert held(tune, "trial_00001") == TrialScheduler.CONTINUE
    again = tune.suggest()
    assert (again["config_id"], again["fold"]) == (config["config_id"], config["fold"])
    run = tune.conductor.race.runs[config["config_id"], 0]
    assert (run.failures, run.losses, run.status) == (0, 1, Status.RUNNING)
    assert failures(tune) == ["machine a cannot read the images: /data/a.jpg: gone"]
    assert tune.fit().conductor.race.members
    assert held(tune, "trial_00001") == TrialScheduler.STOP  # nothing is left to wait for
    assert not tune.assignments.held


def test_a_machine_that_can_read_again_gives_its_slot_back(study: Study, tmp_path: Path) -> None:
    tune = Tune(Search(tmp_path, study), slots=2)
    tune.suggest()
    held(tune, "trial_00001")
    tune.searcher.on_trial_complete("trial_00001", result={HELD: True, "done": True})
    assert not tune.assignments.held
    assert len(failures(tune)) == 1


def test_where_no_machine_has_the_images_the_search_ends(study: Study, tmp_path: Path) -> None:
    tune = Tune(Search(tmp_path, study), slots=2)
    tune.suggest(), tune.suggest()
    assert held(tune, "trial_00001") == TrialScheduler.CONTINUE
    assert held(tune, "trial_00002") == TrialScheduler.CONTINUE
    assert tune.conductor.fatal is None
    assert held(tune, "trial_00001") == TrialScheduler.STOP  # it has looked again
    assert tune.conductor.fatal is not None
    assert tune.conductor.fatal.message.startswith("machine a cannot read the images")
    assert held(tune, "trial_00002") == TrialScheduler.STOP


def test_while_machines_may_come_the_search_waits_a_while_for_one_that_has_the_images(
    study: Study, tmp_path: Path
) -> None:
    tune, now, there = Tune(Search(tmp_path, study), slots=12), [0.0], [2]
    slots = tune.conductor.slots
    slots.clock, slots.present = lambda: now[0], lambda: there[0]
    tune.suggest(), tune.suggest()
    for trial_id in ("trial_00001", "trial_00002", "trial_00001"):
        assert held(tune, trial_id) == TrialScheduler.CONTINUE
    now[0], there[0] = 299.0, 3  # one more has come: perhaps it has them
    assert held(tune, "trial_00001") == TrialScheduler.CONTINUE
    there[0] = 2
    assert held(tune, "trial_00001") == TrialScheduler.CONTINUE
    now[0] = 598.0
    assert held(tune, "trial_00002") == TrialScheduler.CONTINUE
    now[0] = 599.0
    assert tune.conductor.fatal is None
    assert held(tune, "trial_00002") == TrialScheduler.STOP
    assert tune.conductor.fatal is not None


# --- values and names ---------------------------------------------------------------------------


def test_a_result_comes_back_out_of_tune_s() -> None:
    result = EpochResult(3, {"log_loss": 0.5, "seconds": 1.5}, done=True)
    assert epoch_result(flat(result)) == result


def test_a_result_tells_the_machine_it_comes_from() -> None:
    values = {**flat(EpochResult(1, {})), "node_ip": "10.0.0.2"}
    assert epoch_result(values).node == "10.0.0.2"


def test_nested_values_are_those_under_the_name_alone() -> None:
    flattened = {"metrics/a": 1, "metrics/b": 2, "metric/c": 3, "metrics": 4, "x/metrics/d": 5}
    assert nested(flattened, "metrics") == {"a": 1, "b": 2}
    assert nested(flattened, "failure") == {}


def test_a_trial_s_name_tells_backbone_configuration_and_fold() -> None:
    config = {
        "configuration": {"backbone": {"name": "hf_hub:timm/resnet18.a1_in1k"}},
        "config_id": "c0123456789",
        "fold": 2,
    }
    trial: Any = SimpleNamespace(config=config, trial_id="abcde_00017")
    assert trial_name(trial) == "hf_hub_timm_resnet18.a1_in1k-c0123456789-fold2-00017"


def test_tune_s_snapshots_hold_nothing_of_ours(study: Study, tmp_path: Path) -> None:
    tune = Tune(Search(tmp_path / "run", study))
    tune.suggest()
    assert vars(pickle.loads(pickle.dumps(tune.assignments))) == {}
    assert isinstance(pickle.loads(pickle.dumps(tune.searcher)), RaceSearcher)
    folder = tmp_path / "snapshot"
    folder.mkdir()
    tune.searcher.save_to_dir(str(folder))
    assert list(folder.iterdir()) == []
