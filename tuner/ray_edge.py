"""Ray Tune's Searcher and TrialScheduler as two thin shells around one conductor.

A Tune trial is one fold run. Which fold run comes next, and whether it goes on, the conductor
decides; Tune finds the slots, keeps the actors warm and notices when they die.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from trainables.failure import Failure
from trainables.task import COMPLETE, EpochResult, FoldTask
from tuner.conductor import Conductor
from tuner.race import Wait

WORKER_DIED = "the worker process died"


class Assignments:
    """Which fold run each Tune trial is. Not pickled: Tune's snapshots are not what we resume
    from, the journal is."""

    def __init__(self, conductor: Conductor) -> None:
        self.conductor = conductor
        self.tasks: dict[str, FoldTask] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def finish(self, trial_id: str, result: dict[str, Any] | None, error: str | None) -> None:
        """A trial ended, in whatever way; telling twice is harmless."""
        task = self.tasks.pop(trial_id, None)
        if task is None:
            return
        if error is not None:
            self.conductor.fail(task, Failure("crash", error))
        elif failure := nested(result or {}, "failure"):
            self.conductor.fail(task, Failure.from_dict(failure))
        elif not self._last_word(task, result or {}):
            self.conductor.fail(task, Failure("crash", "the fold run ended without a result"))

    def _last_word(self, task: FoldTask, result: dict[str, Any]) -> bool:
        """Take in the last result; False when the race goes on and waits for more of this one."""
        if "epoch" in result:
            return self.conductor.report(task, epoch_result(result))
        return self.conductor.halted


class RaceSearcher(Searcher):
    """Hands out fold runs as trials."""

    def __init__(self, assignments: Assignments) -> None:
        super().__init__(metric="epoch", mode="max")
        self._assignments = assignments

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        work = self._assignments.conductor.take()
        if isinstance(work, FoldTask):
            self._assignments.tasks[trial_id] = work
            return work.to_dict()
        return None if isinstance(work, Wait) else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        # Ray calls the scheduler first when an actor dies; it knows why.
        self._assignments.finish(trial_id, result, WORKER_DIED if error else None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a search resumes by replaying the journal into a new Tune run."""


class RaceScheduler(FIFOScheduler):
    """Asks the conductor after every epoch whether the fold run goes on."""

    def __init__(self, assignments: Assignments) -> None:
        super().__init__()
        self._assignments = assignments
        self._keeps_actors = False

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if not self._keeps_actors:
            self._keeps_actors = True
            keep_idle_actors(tune_controller, trial, self._assignments.conductor.slots)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """No wish: Tune then takes new trials in order, each onto an idle actor where there is
        one. A wish for the first waiting trial would take the idle actor for a trial whose own
        actor is about to be ready, and end that one."""
        return None

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        task = self._assignments.tasks.get(trial.trial_id)
        if task is None:
            return TrialScheduler.STOP
        stop = self._assignments.conductor.report(task, epoch_result(result))
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._assignments.finish(trial.trial_id, None, _why(trial))


def keep_idle_actors(tune_controller: Any, trial: Trial, slots: int) -> None:
    """Let Tune keep `slots` idle actors, not one: a new one takes seconds to import torch.

    Tune has no setting for it. Where its insides have changed, it is only slower."""
    controller = getattr(tune_controller, "_tune_controller", tune_controller)
    increase = getattr(getattr(controller, "_actor_cache", None), "increase_max", None)
    if increase is not None:
        increase(trial.placement_group_factory, slots)


def epoch_result(result: Mapping[str, Any]) -> EpochResult:
    """The fold run's result out of Tune's, which adds keys of its own, flattens ours, and says
    `done` of whatever it has stopped."""
    is_complete = bool(result.get(COMPLETE, False))
    return EpochResult(int(result["epoch"]), nested(result, "metrics"), is_complete)


def nested(result: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values that Tune flattened to `name/key`."""
    prefix = f"{name}/"
    return {key[len(prefix) :]: one for key, one in result.items() if key.startswith(prefix)}


def trial_name(trial: Trial) -> str:
    """What the Ray dashboard and the logs call a fold run."""
    config = trial.config
    backbone = config["configuration"]["backbone"]["name"].replace("/", "_").replace(":", "_")
    return f"{backbone}-{config['config_id']}-fold{config['fold']}-{trial.trial_id[-5:]}"


def _why(trial: Trial) -> str:
    """One line out of the text that Tune has just written down on this machine. (What
    `trial.get_error` reads is the copy in the storage, which comes later.)"""
    try:
        text = Path(trial.error_file or "").read_text()
    except (OSError, UnicodeDecodeError):  # an error that cannot be read is still an error
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()][1:]  # "Failure # 1 (…)"
    if not lines:
        return WORKER_DIED
    # A traceback ends with the error; Ray's own words begin with what matters.
    has_traceback = any(line.startswith("File ") for line in lines)
    return lines[-1 if has_traceback else 0][:300]
