"""A run directory as a search leaves it before the first fold run, small enough to train on."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.store import OofStore, read_predictions
from search_spaces.config import Configuration
from search_spaces.space import load_study
from tests.conftest import TinyImages
from trainables.loop import run_fold
from trainables.run_data import RunData
from trainables.run_paths import RunPaths
from trainables.task import EpochResult, FoldTask
from tuner.prepare import prepare, run_directory_of

# Every value is given, so that the space holds one configuration.
OVERRIDES = (
    "experiment=scratch",
    "data=csv",
    "backbone=test_resnet",
    "augment=light",
    "loss.label_smoothing=0.05",
    "backbone.drop_rate=0.1",
    "optimizer.lr=0.01",
    "train.image_size=32",
    "train.batch_size=8",
    "train.epochs=2",
    "name=tiny",
)


@dataclass(frozen=True)
class TinyRun:
    """A prepared run directory, its data, and the one configuration of its space."""

    root: Path
    data: RunData
    configuration: Configuration

    @property
    def paths(self) -> RunPaths:
        return RunPaths(Location.of(self.root))

    @property
    def store(self) -> OofStore:
        return OofStore(Location.of(self.root))

    def task(
        self, fold: int = 0, configuration: Configuration | None = None, reported_epochs: int = 0
    ) -> FoldTask:
        chosen = configuration or self.configuration
        return FoldTask(str(self.root), chosen.config_id, chosen, fold, reported_epochs)

    def finish(
        self, task: FoldTask | None = None, data: RunData | None = None
    ) -> list[EpochResult]:
        """Every result of a fold run."""
        return list(run_fold(task or self.task(), data or self.data))

    def oof(self, task: FoldTask | None = None) -> Predictions:
        return self._stored("oof", task)

    def test(self, task: FoldTask | None = None) -> Predictions:
        return self._stored("test", task)

    def files(self, task: FoldTask | None = None) -> dict[str, bytes]:
        """What a finished fold run leaves, byte for byte."""
        task = task or self.task()
        where = {
            "oof": self.store.fold_location("oof", task.config_id, task.fold),
            "test": self.store.fold_location("test", task.config_id, task.fold),
            "weights": self.paths.weights(task.config_id, task.fold),
        }
        return {name: location.read_bytes() for name, location in where.items()}

    def copy(self, root: Path) -> TinyRun:
        """The same run before its first fold run, in another directory."""
        root.mkdir(parents=True)
        for name in ("run.yaml", "folds.parquet", "test.parquet"):
            if (self.root / name).exists():
                shutil.copy(self.root / name, root / name)
        return replace(self, root=root)

    def _stored(self, kind: Any, task: FoldTask | None) -> Predictions:
        task = task or self.task()
        return read_predictions(self.store.fold_location(kind, task.config_id, task.fold))[0]


def prepare_tiny_run(storage: Path, images: TinyImages, *overrides: str) -> TinyRun:
    """Check, fold and decode `images`, and draw the one configuration."""
    study = load_study(
        [
            *OVERRIDES,
            f"storage={storage}",
            f"data.path={images.csv}",
            f"data.images={images.images}",
            *overrides,
        ]
    )
    prepared = prepare(study, None, run_directory_of(study.run), _silent)
    configuration = study.space.sample(optuna.trial.FixedTrial({}))
    return TinyRun(prepared.directory.root.local_path, prepared.data, configuration)


def changed(configuration: Configuration, **groups: Mapping[str, Any]) -> Configuration:
    """The configuration with other values: `changed(c, train={"epochs": 3})`."""
    values = configuration.model_dump()
    for group, new in groups.items():
        values[group] |= new
    return Configuration.model_validate(values)


def write_sample_submission(path: Path, ids: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "label"), *((name, "class_00") for name in ids)])
    return path


def _silent(name: str) -> Callable[[int, int], None]:
    return lambda done, total: None
