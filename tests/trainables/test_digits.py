from __future__ import annotations

import csv
import multiprocessing
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainables.digits import write_digits
from trainables.errors import DataError


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits") / "digits")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_1500_digits_have_labels_and_297_have_none(digits: Path) -> None:
    train, sample = rows(digits / "train.csv"), rows(digits / "sample_submission.csv")
    assert (len(train), len(sample)) == (1500, 297)
    assert {row["id"] for row in train} == set(os.listdir(digits / "train"))
    assert {row["id"] for row in sample} == set(os.listdir(digits / "test"))
    assert {row["label"] for row in sample} == {"0"}
    assert sorted(os.listdir(digits)) == ["sample_submission.csv", "test", "train", "train.csv"]


def test_the_order_is_shuffled_and_all_classes_are_there(digits: Path) -> None:
    labels = [int(row["label"]) for row in rows(digits / "train.csv")]
    assert set(labels[:100]) == set(range(10))
    assert labels[:10] != list(range(10))  # scikit-learn's own order begins so


def test_images_are_8_by_8_grey_over_the_whole_range(digits: Path) -> None:
    images = [
        cv2.imread(str(digits / "train" / f"{row:04d}.png"), cv2.IMREAD_UNCHANGED)
        for row in range(50)
    ]
    assert {(image.shape, image.dtype) for image in images} == {((8, 8), np.dtype(np.uint8))}
    assert (np.min(images), np.max(images)) == (0, 255)


def test_the_second_call_writes_nothing(digits: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in digits.rglob("*")}
    assert write_digits(digits) == digits
    assert {path: path.stat().st_mtime_ns for path in digits.rglob("*")} == before


def test_the_same_digits_are_written_everywhere(digits: Path, tmp_path: Path) -> None:
    again = write_digits(tmp_path / "deep" / "digits")
    assert (again / "train.csv").read_bytes() == (digits / "train.csv").read_bytes()


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        done = pool.map(write_digits, [tmp_path / "digits"] * 2, chunksize=1)
    assert done == [tmp_path / "digits"] * 2
    assert os.listdir(tmp_path) == ["digits"]
    assert len(os.listdir(tmp_path / "digits" / "train")) == 1500


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="something else than the digits"):
        write_digits(tmp_path / "digits")
    assert os.listdir(tmp_path) == ["digits"]
    assert os.listdir(tmp_path / "digits") == ["thesis.txt"]
