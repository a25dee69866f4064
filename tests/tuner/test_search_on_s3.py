"""A whole search of data that lie on an object store, its run directory there too."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.conftest import MakeTinyImages
from tests.trainables.stores import new_place, upload
from trainables.errors import UnreachableError
from tuner.race import Status
from tuner.study import search


@pytest.mark.slow
def test_data_and_run_directory_may_both_be_on_an_object_store(
    tiny_images: MakeTinyImages, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDBLEND_CACHE_DIR", str(tmp_path / "cache"))
    images = tiny_images(classes=2, per_class=4)
    place = new_place(s3_endpoint)
    upload(images.root, place / "data")
    data = place / "data"
    arguments = [
        *("experiment=scratch", f"storage='{place / 'runs'}'", "name=run", "data=folder"),
        f"data.path='{data / images.folder.name}'",
        f"data.test_images='{data / images.images.name}'",
        *("folds.k=2", "train.image_size=32", "train.epochs=1", "augment=none"),
        *("backbone=test_resnet", "blend.bootstrap=20", "optimizer.lr=interval(1e-3,4e-3)"),
        *("search.budget.configurations=1", "search.promotion.members=1"),
    ]
    outcome = search(arguments, console=Console(quiet=True), in_process=True)
    runs = outcome.stored.race.runs.values()
    assert [run.status for run in runs] == [Status.FINISHED, Status.FINISHED]
    run = outcome.stored.directory
    assert run.root == place / "runs" / "run"
    folds = pq.read_table(io.BytesIO(run.folds.read_bytes()))
    assert all(path.startswith(data.uri.partition("?")[0]) for path in folds["path"].to_pylist())
    submission = pd.read_csv(io.BytesIO(run.submission.read_bytes()))
    assert sorted(submission["id"]) == sorted(images.ids)
    assert [path.suffix for path in (tmp_path / "cache" / "images").glob("*.npy")] == [".npy"]


def test_a_store_that_refuses_is_one_line_before_anything_is_written(
    s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = new_place(s3_endpoint)
    (place / "cat/a.jpg").write_bytes(b"x")
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
    arguments = ["experiment=scratch", f"storage={tmp_path}", "name=run", "data=folder"]
    arguments += [f"data.path='{place}'", "backbone=test_resnet", "train.image_size=32"]
    with pytest.raises(UnreachableError, match=r"^data\.path=s3://runs/.*access denied") as caught:
        search(arguments, console=Console(quiet=True), in_process=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "run.yaml").exists()
