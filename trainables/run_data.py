"""What every fold run of a run shares on a node: folds, test table, decoded images.

Warm workers keep it between fold runs; it is read from the run directory alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ensemble.files import Location
from search_spaces.config import PreprocessConfig, RunConfig
from trainables.errors import DataError
from trainables.folds import FoldTable, TestTable, read_folds, read_test_table
from trainables.image_cache import ImageCache, ImageSource
from trainables.preprocess import pixels_key
from trainables.run_paths import RunPaths
from trainables.sources import default_cache_dir
from trainables.submission import SubmissionFormat

RUN_VERSION = 1
AS_THEY_ARE = PreprocessConfig()


@dataclass(frozen=True)
class RunRecord:
    """`run.yaml` as far as fold runs and bundles need it. `cache_size`: side in pixels of the
    decoded cache; `submission`: the form in which predictions are due, None without a test set;
    `preprocess`: that of the first configuration, for whose pixels the cache is built first."""

    config: RunConfig
    classes: tuple[str, ...]
    label_values: tuple[str, ...]
    data_fingerprint: str
    cache_size: int
    submission: SubmissionFormat | None = None
    preprocess: PreprocessConfig = AS_THEY_ARE


@dataclass(frozen=True)
class RunData:
    """A run's rows and pixels. Cache row i is training row i; test images follow after them.
    `cache`: the images as `record.preprocess` makes them."""

    record: RunRecord
    folds: FoldTable
    test: TestTable | None
    cache: ImageSource

    @property
    def n_train(self) -> int:
        return len(self.folds.ids)

    @property
    def images(self) -> tuple[str, ...]:
        """The paths of the cache's rows."""
        return tuple(self.folds.paths) + (tuple(self.test.paths) if self.test else ())

    def cache_of(self, preprocess: PreprocessConfig) -> ImageSource:
        """The images as `preprocess` makes them, decoded first where this node has none yet."""
        if pixels_key(preprocess) == pixels_key(self.record.preprocess):
            return self.cache
        return _opened(self.record, self.images, preprocess)


def read_record(paths: RunPaths) -> tuple[RunRecord, dict[str, Any]]:
    """`run.yaml`, checked, and its raw content. DataError when this is no run directory."""
    if not paths.run_yaml.exists():
        raise DataError(
            f"{paths.root}: not a run directory (it has no run.yaml); "
            "give the folder that `foldblend search` printed"
        )
    try:
        raw = yaml.safe_load(paths.run_yaml.read_text())
        if raw["version"] != RUN_VERSION:
            raise ValueError(f"version {raw['version']}, this foldblend reads {RUN_VERSION}")
        return _record(raw), raw
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"{paths.run_yaml}: cannot be read as a run of this version: {_line(error)}"
        ) from error


def _record(raw: Mapping[str, Any]) -> RunRecord:
    data = raw["data"]
    return RunRecord(
        config=RunConfig.model_validate(raw["config"]),
        classes=tuple(data["classes"]),
        label_values=tuple(data["label_values"]),
        data_fingerprint=data["fingerprint"],
        cache_size=int(data["cache_size"]),
        submission=submission_from(data.get("submission")),
        preprocess=PreprocessConfig.model_validate(data.get("preprocess") or {}),
    )


def submission_from(values: Mapping[str, Any] | None) -> SubmissionFormat | None:
    """A submission's form as run.yaml and bundles hold it: its fields, null for none."""
    if values is None:
        return None
    return SubmissionFormat(tuple(values["columns"]), values["kind"], values["id_column"])


def _line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return " ".join(str(error).split())[:200]


def load_run_data(run: str, progress: Callable[[int, int], None] | None = None) -> RunData:
    """Read the tables and open the cache, building it where this node has none yet."""
    paths = RunPaths(Location.of(run))
    record, _ = read_record(paths)
    folds = read_folds(paths.folds)
    test = read_test_table(paths.test_table) if paths.test_table.exists() else None
    images = tuple(folds.paths) + (tuple(test.paths) if test else ())
    cache = open_images(record, images, record.preprocess, progress)
    return RunData(record, folds, test, cache)


def open_images(
    record: RunRecord,
    images: tuple[str, ...],
    preprocess: PreprocessConfig,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSource:
    """This node's decoded images of a run, or a source that decodes them on the fly."""
    return ImageCache.open(
        images,
        record.cache_size,
        cache_directory(record.config),
        record.data_fingerprint,
        preprocess=preprocess,
        limit_bytes=cache_limit_bytes(record.config),
        progress=progress,
    )


@lru_cache(maxsize=4)
def _opened(
    record: RunRecord, images: tuple[str, ...], preprocess: PreprocessConfig
) -> ImageSource:
    return open_images(record, images, preprocess)


@lru_cache(maxsize=1)
def shared_run_data(run: str) -> RunData:
    """`load_run_data`, kept by this process for its next fold run."""
    return load_run_data(run)


def cache_directory(config: RunConfig) -> Path:
    """Where decoded images lie on this node."""
    chosen = config.data.cache_dir
    return (Path(chosen).expanduser() if chosen else default_cache_dir()) / "images"


def cache_limit_bytes(config: RunConfig) -> int | None:
    """The user's bound on all decoded images of a node, None for ours."""
    gigabytes = config.data.cache_gb
    return None if gigabytes is None else int(gigabytes * 1e9)
