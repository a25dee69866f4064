from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ensemble.files import Location
from search_spaces.space import load_study
from tests.conftest import TinyImages
from tests.trainables.tiny_run import TinyRun, prepare_tiny_run
from trainables.errors import DataError, OtherImagesError
from trainables.images import read_square
from trainables.run_data import (
    cache_directory,
    load_run_data,
    read_record,
    shared_run_data,
    submission_from,
)
from trainables.run_paths import RunPaths
from trainables.submission import SubmissionFormat
from tuner.prepare import prepare, run_directory_of


def edit(run: TinyRun, change: dict[str, Any] | None = None, *removed: str) -> None:
    path = run.root / "run.yaml"
    values = yaml.safe_load(path.read_text()) | (change or {})
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if k not in removed}))


def test_the_record_holds_what_was_prepared(tiny_run: TinyRun) -> None:
    record, raw = read_record(tiny_run.paths)
    assert record == tiny_run.data.record
    assert record.classes == record.label_values == ("class_00", "class_01", "class_02")
    assert record.cache_size == 32
    assert record.config.folds.k == 3
    assert record.submission == SubmissionFormat(("id", "label"), "label", "id")
    assert raw["data"]["n_train"] == 24


def test_the_cache_holds_training_rows_and_then_test_images(tiny_run: TinyRun) -> None:
    calls: list[tuple[int, int]] = []
    data = load_run_data(str(tiny_run.root), lambda *call: calls.append(call))
    assert calls == []  # decoded when it was prepared
    assert data.test is not None
    assert data.n_train == len(data.folds.ids) == 24
    assert len(data.cache) == 30
    for row, path in ((5, data.folds.paths[5]), (24, data.test.paths[0]), (29, data.test.paths[5])):
        np.testing.assert_array_equal(data.cache[row][0], read_square(path, 32))


def test_a_node_without_the_cache_decodes_by_itself(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = tiny_run.data.record.config.model_dump(mode="json")
    config["data"]["cache_dir"] = str(tmp_path / "node")
    edit(tiny_run, {"config": config})
    calls: list[tuple[int, int]] = []
    data = load_run_data(str(tiny_run.root), lambda *call: calls.append(call))
    assert calls[-1] == (30, 30)
    assert data.cache.path.parent == tmp_path / "node" / "images"
    np.testing.assert_array_equal(data.cache[range(30)], tiny_run.data.cache[range(30)])


def test_a_node_with_other_images_under_the_same_names_is_told_so(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDBLEND_CACHE_DIR", str(tmp_path / "node"))
    load_run_data(str(tiny_run.root))
    values = yaml.safe_load((tiny_run.root / "run.yaml").read_text())
    edit(tiny_run, {"data": values["data"] | {"fingerprint": "0" * 16}})
    with pytest.raises(OtherImagesError, match="not those that the run was begun with"):
        load_run_data(str(tiny_run.root))


def test_a_node_writes_the_digits_by_itself(tmp_path: Path) -> None:
    settings = ["experiment=scratch", "data=digits", f"data.cache_dir={tmp_path / 'cache'}"]
    settings += [f"storage={tmp_path}", "name=run", "backbone=test_resnet"]
    study = load_study(settings)
    run = prepare(study, None, run_directory_of(study.run), lambda name: lambda done, total: None)
    shutil.rmtree(tmp_path / "cache")
    data = load_run_data(str(run.directory.root))
    np.testing.assert_array_equal(data.cache.pixels, run.data.cache.pixels)


def test_without_a_test_table_there_is_no_test_set(run_images: TinyImages, tmp_path: Path) -> None:
    run = prepare_tiny_run(tmp_path, run_images)
    data = load_run_data(str(run.root))
    assert data.test is None
    assert len(data.cache) == 24


def test_a_process_loads_a_run_once(tiny_run: TinyRun) -> None:
    first = shared_run_data(str(tiny_run.root))
    assert shared_run_data(str(tiny_run.root)) is first
    assert first.folds.ids == tiny_run.data.folds.ids


def test_a_folder_that_is_no_run_is_told_so(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match=r"not a run directory .*`foldblend search` printed"):
            read_record(RunPaths(Location.of(folder)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read as a run"),
        ("just words", "cannot be read as a run"),
        ("version: [1", "while parsing"),
        ("config: {}\nversion: 1\n", "it has no 'data'"),
        ("version: 2\n", "version 2, this foldblend reads 1"),
    ],
)
def test_a_damaged_record_is_one_line(tiny_run: TinyRun, text: str, reason: str) -> None:
    (tiny_run.root / "run.yaml").write_text(text)
    with pytest.raises(DataError, match=r"run\.yaml: cannot be read as a run") as caught:
        read_record(tiny_run.paths)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_setting_is_one_line(tiny_run: TinyRun) -> None:
    config = tiny_run.data.record.config.model_dump(mode="json")
    edit(tiny_run, {"config": config | {"colour": "blue"}})
    with pytest.raises(DataError, match="colour") as caught:
        read_record(tiny_run.paths)
    assert "\n" not in str(caught.value)
    edit(tiny_run, None, "config")
    with pytest.raises(DataError, match="it has no 'config'"):
        read_record(tiny_run.paths)


def test_missing_folds_are_named(tiny_run: TinyRun) -> None:
    os.unlink(tiny_run.root / "folds.parquet")
    with pytest.raises(DataError, match=r"folds\.parquet: no such file; is this a run directory"):
        load_run_data(str(tiny_run.root))


def test_images_are_decoded_into_the_users_cache_unless_told_otherwise(
    tiny_run: TinyRun, own_cache: Path
) -> None:
    config = tiny_run.data.record.config
    assert own_cache in cache_directory(config).parents
    data = config.data.model_copy(update={"cache_dir": "~/elsewhere"})
    chosen = config.model_copy(update={"data": data})
    assert cache_directory(chosen) == Path("~/elsewhere/images").expanduser()


def test_no_submission_is_none() -> None:
    assert submission_from(None) is None
    form = submission_from(
        {"columns": ["id", "a", "b"], "kind": "probabilities", "id_column": "id"}
    )
    assert form == SubmissionFormat(("id", "a", "b"), "probabilities", "id")
