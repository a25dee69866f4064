"""Ray Tune's Searcher and TrialScheduler as two thin shells around one conductor.

A Tune trial is one fold run. Which fold run comes next, and whether it goes on, the conductor
decides; Tune finds the slots, keeps the actors warm and notices when they die.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.result import NODE_IP
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from trainables.failure import Failure, Kind
from trainables.machine_fault import HELD
from trainables.task import COMPLETE, EpochResult, FoldTask, fold_run_name
from tuner.conductor import Conductor
from tuner.slots import Slots
from tuner.work import Done, Wait

# How long a search goes on while no machine that is there has the images, but others may come.
PATIENCE_SECONDS = 300.0

WORKER_DIED = "the worker process died"
NODE_LOST = "its machine was lost"

# What Ray writes of an actor that went away with its machine, a spot machine taken back too. The
# second where it has lost the connection, and after a second has not found out yet why.
_MACHINE_GONE = ("its node has died", "actor is temporarily unavailable")


class Assignments:
    """Which fold run each Tune trial is. Not pickled: Tune's snapshots are not what we resume
    from, the journal is."""

    def __init__(self, conductor: Conductor) -> None:
        self.conductor = conductor
        self.tasks: dict[str, FoldTask] = {}
        self.held: dict[str, FoldTask] = {}
        self._all_held_since: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def finish(self, trial_id: str, result: dict[str, Any] | None, error: str | None) -> None:
        """A trial ended, in whatever way; telling twice is harmless."""
        self.held.pop(trial_id, None)
        task = self.tasks.pop(trial_id, None)
        if task is None:
            return
        if error is not None:
            kind: Kind = "lost" if error.startswith(NODE_LOST) else "crash"
            self.conductor.fail(task, Failure(kind, error))
        elif failure := nested(result or {}, "failure"):
            self.conductor.fail(task, Failure.from_dict(failure))
        elif not self._last_word(task, result or {}):
            self.conductor.fail(task, Failure("crash", "the fold run ended without a result"))

    def _last_word(self, task: FoldTask, result: dict[str, Any]) -> bool:
        """Take in the last result; False when the race goes on and waits for more of this one."""
        if "epoch" in result:
            return self.conductor.report(task, epoch_result(result))
        return self.conductor.halted

    def hold(self, trial_id: str, result: dict[str, Any]) -> bool:
        """A trial's machine cannot read the images. Its fold run is tried elsewhere, while the
        trial keeps the slot, so that nothing else is sent there. True when it is to end: nothing is
        left to do, or no machine has the images."""
        failure = Failure.from_dict(nested(result, "failure"))
        conductor = self.conductor
        conductor.slots.refresh()
        task = self.tasks.pop(trial_id, None)
        if task is not None:
            self.held[trial_id] = task
            conductor.fail(task, failure)
        elif self._nobody_has_them(conductor.slots):  # it has looked again, as have the others
            conductor.fail(self.held[trial_id], Failure("fatal", failure.message))
        return conductor.halted or isinstance(conductor.race.next_work(1), Done)

    def _nobody_has_them(self, slots: Slots) -> bool:
        """Whether every slot is held; also where those of machines that are still to come are not,
        but none has come for a while: they would only be held, too."""
        if len(self.held) >= slots.count:
            return True
        if len(self.held) < slots.there:
            self._all_held_since = None
            return False
        now = slots.clock()
        if self._all_held_since is None:
            self._all_held_since = now
        return now - self._all_held_since >= PATIENCE_SECONDS


class RaceSearcher(Searcher):
    """Hands out fold runs as trials."""

    def __init__(self, assignments: Assignments) -> None:
        super().__init__(metric="epoch", mode="max")
        self._assignments = assignments

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        self._assignments.conductor.slots.refresh()
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
        self._width = 0
        self._factory: Any = None

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._factory = trial.placement_group_factory
        self._widen(tune_controller)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """No wish: Tune then takes new trials in order, each onto an idle actor where there is
        one. A wish for the first waiting trial would take the idle actor for a trial whose own
        actor is about to be ready, and end that one."""
        if self._assignments.conductor.halted:
            end_waiting(tune_controller)
        else:
            self._widen(tune_controller)
        return None

    def _widen(self, tune_controller: Any) -> None:
        """Keep pace with a cluster that has grown. (Where it has shrunk, the race waits.)"""
        count = self._assignments.conductor.slots.count
        if count > self._width and self._factory is not None:
            widen(tune_controller, self._factory, self._width, count)
            self._width = count

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if result.get(HELD):
            stop = self._assignments.hold(trial.trial_id, result)
            return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE
        task = self._assignments.tasks.get(trial.trial_id)
        if task is None:
            return TrialScheduler.STOP
        stop = self._assignments.conductor.report(task, epoch_result(result))
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._assignments.finish(trial.trial_id, None, _why(trial))


def widen(tune_controller: Any, factory: Any, before: int, slots: int) -> None:
    """Let Tune ask for `slots` trials ahead and keep as many idle actors, not one: a new one takes
    seconds to import torch.

    Tune has no setting for it. Where its insides have changed, it is only slower."""
    controller = _inner(tune_controller)
    increase = getattr(getattr(controller, "_actor_cache", None), "increase_max", None)
    if increase is not None:
        increase(factory, slots - before)
    if ahead := getattr(controller, "update_max_pending_trials", None):
        ahead(slots)


def end_waiting(tune_controller: Any) -> None:
    """End the trials that have no machine yet. Tune asks for the next trial several times a second,
    also while nothing runs; left alone they would train an epoch each when a machine is free, and
    until then keep an autoscaler fetching machines."""
    for trial in tune_controller.get_trials():
        if trial.status == Trial.PENDING:
            _inner(tune_controller).stop_trial(trial)


def _inner(tune_controller: Any) -> Any:
    """Tune hands its schedulers a shell around the controller."""
    return getattr(tune_controller, "_tune_controller", tune_controller)


def epoch_result(result: Mapping[str, Any]) -> EpochResult:
    """The fold run's result out of Tune's, which adds keys of its own, flattens ours, and says
    `done` of whatever it has stopped."""
    is_complete = bool(result.get(COMPLETE, False))
    node = str(result.get(NODE_IP) or "")
    return EpochResult(int(result["epoch"]), nested(result, "metrics"), is_complete, node)


def nested(result: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values that Tune flattened to `name/key`."""
    prefix = f"{name}/"
    return {key[len(prefix) :]: one for key, one in result.items() if key.startswith(prefix)}


def trial_name(trial: Trial) -> str:
    """What Tune's folders call a fold run: one that is tried again has another."""
    return f"{name_of(trial.config)}-{trial.trial_id[-5:]}"


def name_of(config: Mapping[str, Any]) -> str:
    """The fold run's name, out of what `suggest` gave."""
    backbone = config["configuration"]["backbone"]["name"]
    return fold_run_name(backbone, config["config_id"], config["fold"])


def _why(trial: Trial) -> str:
    """One line out of the text that Tune has just written down on this machine. (What
    `trial.get_error` reads is the copy in the storage, which comes later.)"""
    try:
        text = Path(trial.error_file or "").read_text()
    except (OSError, UnicodeDecodeError):  # an error that cannot be read is still an error
        text = ""
    if any(words in text for words in _MACHINE_GONE):
        return NODE_LOST
    lines = [line.strip() for line in text.splitlines() if line.strip()][1:]  # "Failure # 1 (…)"
    if not lines:
        return WORKER_DIED
    # A traceback ends with the error; Ray's own words begin with what matters.
    has_traceback = any(line.startswith("File ") for line in lines)
    return lines[-1 if has_traceback else 0][:300]
