"""What every fold run of a run shares on a node: folds, test table, decoded images.

Warm workers keep it between fold runs; it is read from the run directory alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ensemble.files import Location
from search_spaces.config import RunConfig
from trainables.errors import DataError
from trainables.folds import FoldTable, TestTable, read_folds, read_test_table
from trainables.image_cache import ImageCache
from trainables.run_paths import RunPaths
from trainables.sources import default_cache_dir

RUN_VERSION = 1


@dataclass(frozen=True)
class RunRecord:
    """`run.yaml` as far as fold runs need it. `cache_size`: side in pixels of the decoded cache."""

    config: RunConfig
    classes: tuple[str, ...]
    label_values: tuple[str, ...]
    data_fingerprint: str
    cache_size: int


@dataclass(frozen=True)
class RunData:
    """A run's rows and pixels. Cache row i is training row i; test images follow after them."""

    record: RunRecord
    folds: FoldTable
    test: TestTable | None
    cache: ImageCache

    @property
    def n_train(self) -> int:
        return len(self.folds.ids)


def read_record(paths: RunPaths) -> tuple[RunRecord, dict[str, Any]]:
    """`run.yaml`, checked, and its raw content. DataError when this is no run directory."""
    if not paths.run_yaml.exists():
        raise DataError(
            f"{paths.root}: not a run directory (it has no run.yaml); "
            "give the folder that `foldblend search` printed"
        )
    try:
        raw = yaml.safe_load(paths.run_yaml.read_text())
        data = raw["data"]
        record = RunRecord(
            config=RunConfig.model_validate(raw["config"]),
            classes=tuple(data["classes"]),
            label_values=tuple(data["label_values"]),
            data_fingerprint=data["fingerprint"],
            cache_size=int(data["cache_size"]),
        )
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"{paths.run_yaml}: cannot be read as a run of this version: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    return record, raw


def load_run_data(run: str, progress: Callable[[int, int], None] | None = None) -> RunData:
    """Read the tables and open the cache, building it where this node has none yet."""
    paths = RunPaths(Location.of(run))
    record, _ = read_record(paths)
    folds = read_folds(paths.folds)
    test = read_test_table(paths.test_table) if paths.test_table.exists() else None
    images = tuple(folds.paths) + (tuple(test.paths) if test else ())
    cache = ImageCache.open(
        images,
        record.cache_size,
        cache_directory(record.config),
        record.data_fingerprint,
        progress=progress,
    )
    return RunData(record, folds, test, cache)


@lru_cache(maxsize=1)
def shared_run_data(run: str) -> RunData:
    """`load_run_data`, kept by this process for its next fold run."""
    return load_run_data(run)


def cache_directory(config: RunConfig) -> Path:
    """Where decoded images lie on this node."""
    base = Path(config.data.cache_dir).expanduser() if config.data.cache_dir else default_cache_dir()
    return base / "images"
