"""The race as a table: one row per fold run, kept as `fold_runs.parquet`."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from tuner.events import Proposed
from tuner.journal import Record
from tuner.race import FoldRun, Race
from tuner.run_directory import RunDirectory

METRICS = ("log_loss", "accuracy", "macro_f1", "train_loss")
# How it was run: `micro_batch` below the batch size tells that memory ran out (or was expected to).
MACHINE = ("images_per_second", "micro_batch", "loader_workers", "gpu_memory_bytes")


def fold_run_table(race: Race, configurations: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Columns: config_id, fold, number (order of proposal), backbone, status, why, promoted,
    epochs (done), epochs_planned, failures, seconds, the metrics after the last epoch done, how it
    was run (node, images_per_second, micro_batch, loader_workers, gpu_memory_bytes), keep and the
    configuration as JSON. Failed and pruned fold runs are rows like any other."""
    rows = [_row(race, run, configurations.get(run.config_id, {})) for run in race.runs.values()]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


def write_fold_runs(directory: RunDirectory, table: pd.DataFrame) -> None:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    directory.fold_runs.write_bytes(buffer.getvalue())


class LedgerKeeper:
    """A listener that keeps `fold_runs.parquet` up to date, every few seconds at most. An OSError
    (a full disk) is the caller's."""

    def __init__(
        self,
        directory: RunDirectory,
        every_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory, self._every, self._clock = directory, every_seconds, clock
        self._written = clock()
        self._configurations: dict[str, Mapping[str, Any]] = {}

    def __call__(self, record: Record, race: Race) -> None:
        if isinstance(record.event, Proposed):
            self._configurations[record.event.config_id] = record.event.configuration
        now = self._clock()
        if now - self._written >= self._every:
            self._written = now
            write_fold_runs(self._directory, fold_run_table(race, self._configurations))


def _row(race: Race, run: FoldRun, configuration: Mapping[str, Any]) -> dict[str, Any]:
    entrant = race.entrants[run.config_id]
    return {
        "config_id": run.config_id,
        "fold": run.fold,
        "number": entrant.number,
        "backbone": entrant.backbone,
        "status": str(run.status),
        "why": run.why,
        "promoted": entrant.promoted,
        "epochs": run.epoch,
        "epochs_planned": entrant.epochs,
        "failures": run.failures,
        "seconds": run.seconds,
        "node": run.node,
        **{name: run.metrics.get(name, float("nan")) for name in (*METRICS, *MACHINE)},
        "keep": configuration.get("train", {}).get("keep", "last"),
        "configuration": json.dumps(configuration, sort_keys=True),
    }


_COLUMNS = {
    "config_id": "str",
    "fold": "int16",
    "number": "int32",
    "backbone": "str",
    "status": "str",
    "why": "str",
    "promoted": "bool",
    "epochs": "int32",
    "epochs_planned": "int32",
    "failures": "int32",
    "seconds": "float64",
    "node": "str",
    **dict.fromkeys((*METRICS, *MACHINE), "float64"),
    "keep": "str",
    "configuration": "str",
}
