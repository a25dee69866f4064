"""What a fold run leaves: weights, test probabilities and, last of all, the out-of-fold rows. A
fold run whose out-of-fold file is present is complete."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.store import Kind, OofStore, StoreMetadata, read_predictions, write_predictions
from trainables.recipe import Recipe
from trainables.run_data import RunData
from trainables.run_paths import RunPaths
from trainables.task import EpochResult, FoldTask
from trainables.weights import save_weights

# Not stored with the predictions: the same fold run has to give the same file, byte for byte.
WALL_CLOCK = (
    *("seconds", "images_per_second", "micro_batch", "loader_workers"),
    "gpu_memory_bytes",
)


def paths_of(task: FoldTask) -> RunPaths:
    return RunPaths(Location.of(task.run))


def stored_result(task: FoldTask) -> EpochResult | None:
    """The result of a fold run whose files are complete, else None."""
    store = OofStore(Location.of(task.run))
    if not store.has("oof", task.config_id, task.fold):
        return None
    _, metadata = read_predictions(store.fold_location("oof", task.config_id, task.fold))
    epochs = int(metadata.metrics.get("epochs", task.configuration.train.epochs))
    return EpochResult(epochs, dict(metadata.metrics), done=True)


class FoldFiles:
    """Writes the files of one fold run, under the identity of its task."""

    def __init__(self, task: FoldTask, data: RunData) -> None:
        self._task, self._data = task, data
        self._paths = paths_of(task)

    def write(
        self,
        model: nn.Module,
        recipe: Recipe,
        oof: np.ndarray,
        test: np.ndarray | None,
        metrics: Mapping[str, float],
    ) -> None:
        """In this order, so that present means complete. `oof`: (n, C) float32 of the validation
        rows; `test`: (m, C) float32, None where there are no test images."""
        task = self._task
        location = self._paths.weights(task.config_id, task.fold)
        save_weights(location, model, recipe, task)
        if test is not None:
            self._write("test", self._test(test), metrics)
        self._write("oof", self._oof(oof), metrics)

    def _oof(self, proba: np.ndarray) -> Predictions:
        folds, fold = self._data.folds, self._task.fold
        rows = folds.validation_rows(fold)
        return Predictions(
            ids=np.asarray(folds.ids, dtype=object)[rows],
            labels=folds.labels[rows].astype(np.int32),
            folds=np.full(len(rows), fold, np.int16),
            proba=proba,
        )

    def _test(self, proba: np.ndarray) -> Predictions:
        assert self._data.test is not None
        n = len(self._data.test.ids)
        return Predictions(
            ids=np.asarray(self._data.test.ids, dtype=object),
            labels=np.full(n, -1, np.int32),
            folds=np.full(n, self._task.fold, np.int16),
            proba=proba,
        )

    def _write(self, kind: Kind, predictions: Predictions, metrics: Mapping[str, float]) -> None:
        metadata = StoreMetadata(
            classes=self._data.record.classes,
            config_id=self._task.config_id,
            configuration=self._task.configuration.model_dump(mode="json"),
            metrics={key: metrics[key] for key in metrics if key not in WALL_CLOCK},
            data_fingerprint=self._data.record.data_fingerprint,
        )
        store = OofStore(self._paths.root)
        location = store.fold_location(kind, self._task.config_id, self._task.fold)
        write_predictions(location, predictions, metadata)
