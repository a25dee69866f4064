"""The Ray edge of this package: a fold run as a `ray.tune.Trainable`.

One actor runs many fold runs (`reuse_actors`): what a node shares stays loaded, so a further fold
run starts in milliseconds instead of the seconds that importing torch takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray import tune

from trainables.failure import describe
from trainables.loop import run_fold
from trainables.run_data import shared_run_data
from trainables.task import COMPLETE, EpochResult, FoldTask


class FoldTrainable(tune.Trainable):
    """One step is one epoch. A failure of the fold run is a result, not an exception: so its text
    reaches the search whole, and the warm actor lives on. Checkpoints are the fold run's own (see
    `checkpoint.py`), because they belong to (configuration, fold) and not to a Tune trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self._results: Iterator[EpochResult] | None = None
        self._task = FoldTask.from_dict(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        try:
            if self._results is None:
                self._results = run_fold(self._task, shared_run_data(self._task.run))
            result = next(self._results)
            # Tune writes `done` into the last result of every trial that it stops, also of one
            # that the user interrupted: what is complete has to be told by a key of our own.
            return {**result.to_dict(), COMPLETE: result.done}
        except Exception as error:  # every kind of failure becomes a row with its text
            self._results = None
            return {"failure": describe(error).to_dict(), "done": True}

    def cleanup(self) -> None:
        self._results = None

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Tune keeps nothing of ours."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Nothing was kept."""
