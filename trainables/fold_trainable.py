"""The Ray edge of this package: a fold run as a `ray.tune.Trainable`.

One actor runs many fold runs (`reuse_actors`): what a node shares stays loaded, so a further fold
run starts in milliseconds instead of the seconds that importing torch takes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import ray
import torch
from ray import tune

from trainables.device_fault import device_lost, is_lost
from trainables.errors import DataError
from trainables.failure import describe
from trainables.images import usable_cores
from trainables.loader_settings import cores_of_share
from trainables.loop import run_fold
from trainables.machine_fault import (
    FAULTS,
    HELD,
    LOOK_AGAIN_SECONDS,
    can_read,
    machine_failure,
)
from trainables.memory import release_all_memory
from trainables.run_data import shared_run_data
from trainables.task import COMPLETE, EpochResult, FoldTask


class FoldTrainable(tune.Trainable):
    """One step is one epoch. A failure of the fold run is a result, not an exception: so its text
    reaches the search whole, and the warm actor lives on; but not where the GPU is lost to its
    process. Checkpoints are the fold run's own (see `checkpoint.py`), because they belong to
    (configuration, fold) and not to a Tune trial."""

    def setup(self, config: dict[str, Any]) -> None:
        _log_to_file()
        self._results: Iterator[EpochResult] | None = None
        self._fault: DataError | None = None
        release_all_memory()  # of a fold run that was stopped
        self._task = FoldTask.from_dict(config)

    def __repr__(self) -> str:
        """What the Ray dashboard calls this actor. Ray asks once, when the actor is new, so it is
        named after its first fold run; its tasks and its process bear the present one's name."""
        return f"{self._task.name} (first)"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        _title(self._task.name)
        if self._fault is not None:
            return self._look_again(self._fault)
        result = self._next_epoch()
        if result["done"] or self._fault is not None:
            # An idle actor may share its GPU with others that work.
            self._results = None
            release_all_memory()
        return result

    def _next_epoch(self) -> dict[str, Any]:
        try:
            if self._results is None:
                data = shared_run_data(self._task.run)
                self._results = run_fold(self._task, data, *_given())
            result = next(self._results)
            # Tune writes `done` into the last result of every trial that it stops, also of one
            # that the user interrupted: what is complete has to be told by a key of our own.
            return {**result.to_dict(), COMPLETE: result.done}
        except FAULTS as error:
            self._fault = _without_frames(error)
            return self._held(error)
        except Exception as error:  # every kind of failure becomes a row with its text
            if is_lost(error):
                raise device_lost(error) from error
            return {"failure": describe(error).to_dict(), "done": True}

    def _held(self, error: DataError, *, done: bool = False) -> dict[str, Any]:
        """What the search hears of a machine that cannot read the images."""
        failure = machine_failure(error)
        logging.getLogger(__name__).info("%s", "it can again" if done else failure.message)
        return {"failure": failure.to_dict(), HELD: True, "done": done}

    def _look_again(self, error: DataError) -> dict[str, Any]:
        """The fold run is tried elsewhere by now. Until the machine can read the images, this
        trial keeps its slot; done when it can."""
        time.sleep(LOOK_AGAIN_SECONDS)
        is_over = can_read(error, lambda: shared_run_data(self._task.run))
        return self._held(error, done=is_over)

    def cleanup(self) -> None:
        self._results = None

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Tune keeps nothing of ours."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Nothing was kept."""


def _given() -> tuple[torch.device | None, int | None]:
    """Where this actor trains, and how many of the machine's cores may feed its GPU; None and None
    for whatever there is, outside Ray.

    On the CPU where Ray gave it no GPU: Ray hides none from an actor that asked for none, and
    others work there."""
    if not ray.is_initialized():
        return None, None
    if not ray.get_gpu_ids():
        return torch.device("cpu"), None
    context = ray.get_runtime_context()
    machines = {one["NodeID"]: one["Resources"] for one in ray.nodes()}
    machine = machines.get(context.get_node_id(), {})
    return None, cores_of_share(usable_cores(), context.get_assigned_resources(), machine)


def _without_frames(error: DataError) -> DataError:
    """The error alone: the frames that it came through would keep the whole fold run."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _title(name: str) -> None:
    """What `ps`, `nvidia-smi` and the dashboard's cluster page call this process, until the task
    ends: then Ray writes its own title again. Not outside Ray, where the process is another's."""
    if ray.is_initialized():
        # Ray has no public name for it; where it goes, the title is only less telling. It has to
        # begin as Ray's own titles do, by which `ray stop` knows what to end.
        set_title = getattr(ray._raylet, "setproctitle", None)
        if set_title is not None:
            set_title(f"ray::{name}")


def _log_to_file() -> None:
    """What this package says at work goes into the worker's log. Not outside Ray, where the
    process and its terminal are another's."""
    logger = logging.getLogger("trainables")
    if ray.is_initialized() and not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
