"""Names in the Ray dashboard: every epoch of a fold run is a task that bears the fold run's name.

An actor's own name is fixed when it begins, and ours run many fold runs one after another. A
task's is not: so the dashboard, `ray list tasks` and the timeline tell what runs where.
"""

from __future__ import annotations

import weakref
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from tuner.ray_edge import name_of

# The method by which Tune asks an actor for an epoch.
METHOD = "train"


class TaskNames(tune.Callback):
    """Told by Tune of every trial that begins, before its first epoch is asked for."""

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        # Tune's place of the handle. Where it is another one day, the tasks have Ray's own names.
        handle = getattr(getattr(trial, "temporary_state", None), "ray_actor", None)
        if handle is not None:
            name_tasks(handle, name_of(trial.config))


def name_tasks(handle: Any, name: str) -> None:
    """Let the tasks that `handle.train.remote()` makes from now on be called `name`."""
    handle.__dict__[METHOD] = _Named(handle, name)


class _Named:
    """An actor's method with a name of the caller's choice. It does not keep the handle alive,
    whose end is the actor's end."""

    def __init__(self, handle: Any, name: str) -> None:
        self._handle, self._name = weakref.ref(handle), name

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        handle = self._handle()
        assert handle is not None  # whoever calls this has found it there
        method = type(handle).__getattr__(handle, METHOD)
        return method.options(name=self._name).remote(*args, **kwargs)
