from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest

from tests.conftest import TinyImages
from tests.trainables.tiny_blend import BlendedRun
from tests.trainables.tiny_run import write_sample_submission
from trainables.bundle import read_bundle
from trainables.bundle_predict import predict_images, predict_to_files
from trainables.errors import DataError


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def images(unlabelled_images: TinyImages) -> Path:
    """The folder of the run's 6 test images. Only to be read."""
    return unlabelled_images.images


def test_predicting_the_test_images_gives_the_blend_of_the_stored_ones(
    blended_run: BlendedRun, exported: Path
) -> None:
    test = blended_run.run.data.test
    assert test is not None
    calls: list[tuple[int, int]] = []
    proba = predict_images(
        read_bundle(exported), exported, test.paths, progress=lambda *call: calls.append(call)
    )
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba, blended_run.stored_blend(), atol=1e-5)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    assert calls == [(6 * models, 36) for models in range(1, 7)]  # 2 members of 3 folds


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_batch_size_does_not_matter(
    blended_run: BlendedRun, exported: Path, batch_size: int
) -> None:
    test = blended_run.run.data.test
    assert test is not None
    bundle = read_bundle(exported)
    proba = predict_images(bundle, exported, test.paths, batch_size=batch_size)
    np.testing.assert_allclose(proba, blended_run.stored_blend(), atol=1e-5)


def test_a_folder_is_predicted_in_the_order_of_its_names(
    blended_run: BlendedRun, exported: Path, images: Path, tmp_path: Path
) -> None:
    count = predict_to_files(
        exported,
        str(images),
        tmp_path / "out.csv",
        probabilities=tmp_path / "out.parquet",
    )
    assert count == 6
    found = rows_of(tmp_path / "out.csv")
    names = sorted(path.name for path in images.iterdir())
    assert [row["id"] for row in found] == names
    test = blended_run.run.data.test
    assert test is not None
    winners = blended_run.stored_blend()[[test.ids.index(name) for name in names]].argmax(axis=1)
    assert [row["label"] for row in found] == [f"class_{winner:02d}" for winner in winners]
    assert list(found[0]) == ["id", "label"]


def test_a_table_keeps_its_order_and_a_pattern_chooses(
    exported: Path, images: Path, tmp_path: Path
) -> None:
    names = sorted(path.name for path in images.iterdir())
    order = [names[row] for row in (3, 0, 5)]
    table = write_sample_submission(tmp_path / "wanted.csv", order)
    predict_to_files(exported, str(table), tmp_path / "a.csv", root=images)
    predict_to_files(exported, f"{images}/*_000.jpg", tmp_path / "b.csv")
    predict_to_files(exported, str(images), tmp_path / "all.csv")
    every = {row["id"]: row["label"] for row in rows_of(tmp_path / "all.csv")}
    first, second = rows_of(tmp_path / "a.csv"), rows_of(tmp_path / "b.csv")
    assert [row["id"] for row in first] == order
    assert [row["id"] for row in second] == [name for name in names if "_000" in name]
    assert all(every[row["id"]] == row["label"] for row in first + second)


def test_the_submission_has_the_form_that_the_run_was_given(
    bundle_folder: Path, images: Path, tmp_path: Path
) -> None:
    path = bundle_folder / "ensemble.json"
    values = json.loads(path.read_text())
    columns = ["class_02", "image", "class_00", "class_01"]
    values["submission"] = {"columns": columns, "kind": "probabilities", "id_column": "image"}
    path.write_text(json.dumps(values))
    predict_to_files(
        bundle_folder,
        str(images),
        tmp_path / "out.csv",
        probabilities=tmp_path / "out.parquet",
    )
    frame = pd.read_csv(tmp_path / "out.csv")
    assert list(frame.columns) == columns
    proba = np.stack(pd.read_parquet(tmp_path / "out.parquet")["proba"].tolist())
    np.testing.assert_allclose(frame[["class_00", "class_01", "class_02"]], proba, atol=1e-6)


def test_labels_are_written_as_the_label_column_held_them(
    bundle_folder: Path, images: Path, tmp_path: Path
) -> None:
    path = bundle_folder / "ensemble.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"label_values": ["10", "20", "30"], "submission": None}))
    predict_to_files(bundle_folder, str(images), tmp_path / "out.csv")
    assert {row["label"] for row in rows_of(tmp_path / "out.csv")} <= {"10", "20", "30"}


def test_any_table_program_opens_the_probabilities(
    exported: Path, images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "deep" / "proba.parquet"
    predict_to_files(exported, str(images), tmp_path / "out.csv", probabilities=path)
    frame = pd.read_parquet(path)
    assert list(frame.columns) == ["id", "label", "proba"]
    proba = np.stack(frame["proba"].tolist())
    assert (proba.shape, proba.dtype) == ((6, 3), np.dtype(np.float32))
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    assert [f"class_{winner:02d}" for winner in proba.argmax(axis=1)] == frame["label"].tolist()
    assert frame["label"].tolist() == [row["label"] for row in rows_of(tmp_path / "out.csv")]
    np.testing.assert_array_equal(polars.read_parquet(path)["proba"].to_numpy(), proba)
    counted = duckdb.sql(f"select count(*) from '{path}' where len(proba) = 3")
    assert counted is not None
    assert counted.fetchall() == [(6,)]
    metadata = pq.read_schema(path).metadata
    assert json.loads(metadata[b"foldblend.classes"]) == ["class_00", "class_01", "class_02"]


def test_missing_images_are_one_line_before_anything_is_predicted(
    exported: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.bundle_predict.load_model", None)
    names = sorted(path.name for path in images.iterdir())
    table = write_sample_submission(tmp_path / "w.csv", [names[0], "lost.jpg", "gone.jpg"])
    with pytest.raises(DataError, match=r"2 of 3 images are missing, first .*lost\.jpg") as caught:
        predict_to_files(exported, str(table), tmp_path / "out.csv", root=images)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff words", b"words"])
def test_an_image_that_cannot_be_read_is_named(
    exported: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr("trainables.bundle_predict.load_model", None)
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    (folder / "class_01_000.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"class_01_000\.jpg: ") as caught:
        predict_to_files(exported, str(folder), tmp_path / "out.csv")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


def test_a_folder_that_is_no_bundle_is_told_so(images: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a bundle"):
        predict_to_files(tmp_path, str(images), tmp_path / "out.csv")


def test_decoded_images_do_not_stay(
    exported: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aside").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "aside"))
    predict_to_files(exported, str(images), tmp_path / "out.csv")
    assert list((tmp_path / "aside").iterdir()) == []
