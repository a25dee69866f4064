"""What every fold run of a run shares on a node: folds, test table, decoded images.

Warm workers keep it between fold runs; it is read from the run directory alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ensemble.files import Location
from search_spaces.config import PreprocessConfig, RunConfig
from trainables.build_log import BuildLog
from trainables.digits import write_digits
from trainables.errors import DataError, OtherImagesError
from trainables.folds import FoldTable, TestTable, read_folds, read_test_table
from trainables.image_cache import ImageCache, ImageSource, Verify
from trainables.manifest import Manifest, fingerprint
from trainables.preprocess import AS_IT_IS, pixels_key
from trainables.run_paths import RunPaths
from trainables.sources import default_cache_dir
from trainables.submission import SubmissionFormat

RUN_VERSION = 1


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
    preprocess: PreprocessConfig = AS_IT_IS


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
        return _images(self.folds, self.test)

    def cache_of(
        self, preprocess: PreprocessConfig, progress: Callable[[int, int], None] | None = None
    ) -> ImageSource:
        """The images as `preprocess` makes them, decoded first where this node has none yet; then
        `progress(done, total)` is called."""
        if pixels_key(preprocess) == pixels_key(self.record.preprocess):
            return self.cache
        if progress is not None:  # no part of what `_opened` is remembered by
            open_images(self.record, self.folds, self.test, preprocess, progress)
        return _opened(self.record, self.folds, self.test, preprocess)


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
    if record.config.data.source == "digits":
        # No user brings them to a node: they are where the machine that began the run wrote them.
        write_digits(Path(folds.paths[0]).parents[1])
    cache = open_images(record, folds, test, record.preprocess, progress)
    return RunData(record, folds, test, cache)


def open_images(
    record: RunRecord,
    folds: FoldTable,
    test: TestTable | None,
    preprocess: PreprocessConfig,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSource:
    """This node's decoded images of a run, or a source that decodes them on the fly. What a node
    decodes is compared with what the run was begun with: OtherImagesError where it differs."""
    return ImageCache.open(
        _images(folds, test),
        record.cache_size,
        cache_directory(record.config),
        record.data_fingerprint,
        preprocess=preprocess,
        limit_bytes=cache_limit_bytes(record.config),
        progress=progress,
        verify=_same_images(record, folds, test),
    )


def _images(folds: FoldTable, test: TestTable | None) -> tuple[str, ...]:
    return tuple(folds.paths) + (tuple(test.paths) if test else ())


def _same_images(record: RunRecord, folds: FoldTable, test: TestTable | None) -> Verify:
    """A node may hold another copy of the data than the one that was checked."""

    def verify(digests: Sequence[str]) -> None:
        n = len(folds.ids)
        manifest = Manifest(
            folds.ids,
            folds.paths,
            folds.labels,
            folds.groups,
            folds.classes,
            record.label_values,
            test.ids if test else (),
            test.paths if test else (),
        )
        if fingerprint(manifest, digests[:n], digests[n:]) != record.data_fingerprint:
            raise OtherImagesError(
                "the images are not those that the run was begun with (other content under the "
                f"same names), first {folds.paths[0]}; bring the same files to every machine"
            )

    return verify


@lru_cache(maxsize=4)
def _opened(
    record: RunRecord, folds: FoldTable, test: TestTable | None, preprocess: PreprocessConfig
) -> ImageSource:
    return open_images(record, folds, test, preprocess, BuildLog())


@lru_cache(maxsize=1)
def shared_run_data(run: str) -> RunData:
    """`load_run_data`, kept by this process for its next fold run. Its log has the progress."""
    return load_run_data(run, BuildLog())


def cache_directory(config: RunConfig) -> Path:
    """Where decoded images lie on this node."""
    chosen = config.data.cache_dir
    return (Path(chosen).expanduser() if chosen else default_cache_dir()) / "images"


def cache_limit_bytes(config: RunConfig) -> int | None:
    """The user's bound on all decoded images of a node, None for ours."""
    gigabytes = config.data.cache_gb
    return None if gigabytes is None else int(gigabytes * 1e9)
