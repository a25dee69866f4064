"""Everything before the first fold run: check names and data, draw the folds, decode the images.

`run.yaml` is written last. A directory without it was never a run, and preparing it again is
harmless; with it, the folds are never drawn again.
"""

from __future__ import annotations

import csv
import io
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from search_spaces.config import RunConfig
from search_spaces.space import Space, Study
from trainables.backbone import (
    check_backbone,
    check_backbone_name,
    check_earlier_runs,
    optimism_of_earlier_runs,
)
from trainables.cache_builder import CacheBuilder
from trainables.checks import CheckedData, check_data
from trainables.crops import side_for_crops
from trainables.errors import Problem
from trainables.folds import assign_folds, read_folds, write_folds, write_test
from trainables.manifest import Manifest
from trainables.optim import check_optimizer_name
from trainables.preprocess import pixels_key
from trainables.run_data import (
    RUN_VERSION,
    RunData,
    cache_directory,
    cache_limit_bytes,
    load_run_data,
)
from trainables.seeds import derive_seed
from trainables.sources import load_manifest
from tuner.errors import UserError
from tuner.own_groups import keep_groups
from tuner.run_directory import RunDirectory

PACKAGES = (
    "foldblend",
    "torch",
    "timm",
    "ray",
    "optuna",
    "albumentations",
    "scikit-learn",
    "numpy",
)


# What a start that was cut off before run.yaml may leave: it is written again.
LEFT_BY_A_START = ("folds.parquet", "test.parquet", "dropped.csv", "config")


# How long work is shown: the name of a step gives what is called with done and total.
Steps = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to be searched."""

    directory: RunDirectory
    data: RunData


def run_directory_of(config: RunConfig) -> RunDirectory:
    """`<storage>/<name>`."""
    return RunDirectory(RunDirectory.of(config.storage).root / config.name)


def refuse_existing(run: RunDirectory) -> None:
    """UserError where a run lies already: neither overwritten nor mixed."""
    if run.run_yaml.exists():
        raise UserError(
            f"{run.root}: a run of this name exists; go on with it by "
            f"`foldblend search --resume {shlex.quote(str(run.root))}`, or choose another name=…"
        )
    stray = [entry.name for entry in run.root.list() if entry.name not in LEFT_BY_A_START]
    if stray:
        raise UserError(
            f"{run.root}: not empty and not a run directory (holds {stray[0]}); "
            "choose another name=…"
        )


def check_names(space: Space) -> None:
    """Unknown names are found now, not in the first fold run."""
    for backbone in space.backbones():
        check_backbone_name(backbone.name)
        if backbone.second:
            check_backbone_name(backbone.second, key="backbone.second")
    for name in space.reachable("optimizer.name"):
        check_optimizer_name(name)


def check_weights(space: Space) -> None:
    """Weights out of reach are found before an hour of decoding."""
    for backbone in space.backbones():
        check_backbone(backbone)


def max_epochs(space: Space) -> int:
    """The most epochs that a configuration of the space can take."""
    return max(space.reachable("train.epochs"))


def prepare(study: Study, config_dir: Path | None, run: RunDirectory, steps: Steps) -> Prepared:
    """Check, fold, decode; returns what the search needs. All problems of the data at once are a
    `DataProblems`."""
    config = study.run
    refuse_existing(run)
    check_names(study.space)
    manifest = load_manifest(config.data)
    check_weights(study.space)
    checked = _check_and_decode(study, manifest, steps)
    _write_tables(run, config, checked)
    _check_earlier_runs(study.space, run)
    keep_groups(config_dir, run)
    run.run_yaml.write_text(_run_yaml(study, config_dir, checked))
    data = load_run_data(str(run.root), steps("decoding images"))
    _decode_variants(study.space, data, steps)
    return Prepared(run, data)


def _decode_variants(space: Space, data: RunData, steps: Steps) -> None:
    """Further preprocessing is decoded now, not by the first fold run that asks for it."""
    known = {pixels_key(data.record.preprocess)}
    for preprocess in space.preprocessings():
        if pixels_key(preprocess) not in known:
            known.add(pixels_key(preprocess))
            data.cache_of(preprocess, steps(f"decoding images ({preprocess.name})"))


def _check_and_decode(study: Study, manifest: Manifest, steps: Steps) -> CheckedData:
    """Look at every image once: what the check has decoded is kept for the fold runs."""
    config, preprocess = study.run, study.space.preprocessings()[0]
    with CacheBuilder(
        (*manifest.paths, *manifest.test_paths),
        cache_size(study.space, config),
        cache_directory(config),
        preprocess=preprocess,
        limit_bytes=cache_limit_bytes(config),
    ) as builder:
        checked = check_data(
            manifest,
            k=config.folds.k,
            kind=config.folds.kind,
            on_bad_image=config.data.on_bad_image,
            progress=steps("checking images"),
            decode=builder.store,
        )
        kept = checked.manifest
        builder.finish((*kept.paths, *kept.test_paths), checked.fingerprint)
    return checked


def cache_size(space: Space, config: RunConfig) -> int:
    """The side in pixels at which images are cached: what the user says, else the largest image
    size, with a margin where training crops. Smaller originals are enlarged: their sizes are known
    only when all were decoded."""
    if config.data.cache_size is not None:
        return config.data.cache_size
    largest = max(space.image_sizes())
    crops = min(space.reachable("augment.crop_min")) < 1.0 or "crop" in space.reachable(
        "preprocess.resize"
    )
    return side_for_crops(largest) if crops else largest


def _check_earlier_runs(space: Space, run: RunDirectory) -> None:
    folds = read_folds(run.folds)
    for backbone in space.backbones():
        check_earlier_runs(backbone, folds)


def _write_tables(run: RunDirectory, config: RunConfig, checked: CheckedData) -> None:
    manifest = checked.manifest
    folds = assign_folds(
        manifest.labels,
        manifest.groups,
        k=config.folds.k,
        kind=config.folds.kind,
        seed=derive_seed(config.seed, "folds"),
    )
    for left in (run.folds, run.test_table, run.dropped):
        left.delete()  # of a start that was cut off before run.yaml
    write_folds(run.folds, manifest, folds)
    if manifest.test_ids:
        write_test(run.test_table, manifest)
    if checked.dropped:
        run.dropped.write_text(_dropped_csv(checked.dropped))


def _dropped_csv(dropped: Sequence[Problem]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["kind", "where", "detail"])
    writer.writerows([(problem.kind, problem.where, problem.detail) for problem in dropped])
    return text.getvalue()


def _run_yaml(study: Study, config_dir: Path | None, checked: CheckedData) -> str:
    manifest = checked.manifest
    content = {
        "version": RUN_VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "config": study.run.model_dump(mode="json"),
        "overrides": list(study.overrides),
        "config_dir": str(config_dir.resolve()) if config_dir else None,
        "space": {
            "fingerprint": study.space.fingerprint(),
            "max_epochs": max_epochs(study.space),
            "searched": [
                {"key": row.key, "range": row.description, "holds_when": row.condition}
                for row in study.space.rows()
            ],
        },
        "data": {
            "fingerprint": checked.fingerprint,
            "classes": list(manifest.classes),
            "label_values": list(manifest.label_values),
            "cache_size": cache_size(study.space, study.run),
            "preprocess": study.space.preprocessings()[0].model_dump(mode="json"),
            "n_train": len(manifest.ids),
            "n_test": len(manifest.test_ids),
            "n_dropped": len(checked.dropped),
            "submission": _submission_dict(manifest),
        },
        "notes": _notes(study.space),
        "versions": versions(),
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _notes(space: Space) -> list[str]:
    """What a reader of this run's scores has to know of where it comes from."""
    every = (note for one in space.backbones() for note in optimism_of_earlier_runs(one))
    return list(dict.fromkeys(every))


def _submission_dict(manifest: Manifest) -> dict[str, Any] | None:
    """The submission's form as `run_data.submission_from` reads it."""
    form = manifest.submission
    if form is None:
        return None
    return {"columns": list(form.columns), "kind": form.kind, "id_column": form.id_column}


def versions() -> dict[str, str]:
    """Of Python and of every package on which a result depends."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
