from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.files import Location
from ensemble.run import BLEND_FILE, FOLDS_FILE
from trainables.run_paths import RunPaths


def test_every_file_lies_where_the_readme_says(tmp_path: Path) -> None:
    paths = RunPaths(Location.of(tmp_path))
    found = {
        "run.yaml": paths.run_yaml,
        "folds.parquet": paths.folds,
        "test.parquet": paths.test_table,
        "blend.json": paths.blend,
        "weights/c1/fold=2/model.safetensors": paths.weights("c1", 2),
        "checkpoints/c1/fold=2": paths.checkpoint_folder("c1", 2),
        "checkpoints/c1/fold=2/last.pt": paths.checkpoint("c1", 2),
    }
    assert {name: str(location) for name, location in found.items()} == {
        name: str(tmp_path / name) for name in found
    }


def test_blending_looks_in_the_same_places(tmp_path: Path) -> None:
    paths = RunPaths(Location.of(tmp_path))
    assert (paths.folds.name, paths.blend.name) == (FOLDS_FILE, BLEND_FILE)


def test_a_run_may_lie_on_an_object_store() -> None:
    paths = RunPaths(Location.of("s3://bucket/run?endpoint_override=host:1"))
    expected = "s3://bucket/run/weights/c1/fold=0/model.safetensors?endpoint_override=host:1"
    assert str(paths.weights("c1", 0)) == expected


def test_a_name_cannot_leave_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the name of a child"):
        RunPaths(Location.of(tmp_path)).weights("../../else", 0)
