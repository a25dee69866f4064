"""The fixtures that other tests stand on."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import cv2
import numpy as np

from tests.conftest import MakeTinyImages


def test_the_cache_is_a_folder_of_this_session(own_cache: Path) -> None:
    assert os.environ["XDG_CACHE_HOME"] == str(own_cache)


def test_numerical_libraries_are_given_one_thread_unless_told_otherwise() -> None:
    assert int(os.environ["OMP_NUM_THREADS"]) >= 1


def test_the_table_the_flat_folder_and_the_class_folders_agree(tiny_images: MakeTinyImages) -> None:
    tiny = tiny_images(classes=4, per_class=3, size=24)
    with tiny.csv.open(encoding="utf-8") as file:
        rows = [(row["id"], row["label"]) for row in csv.DictReader(file)]
    assert rows == list(zip(tiny.ids, tiny.labels, strict=True))
    assert len(rows) == 12
    assert sorted(set(tiny.labels)) == list(tiny.classes)
    for image_id, label in rows:
        flat = (tiny.images / image_id).read_bytes()
        assert flat.startswith(b"\xff\xd8")  # JPEG
        assert flat == (tiny.folder / label / image_id).read_bytes()
        assert cv2.imread(str(tiny.images / image_id)).shape == (24, 24, 3)


def test_the_same_seed_draws_the_same_images_and_another_does_not(
    tiny_images: MakeTinyImages,
) -> None:
    first, again, other = (
        tiny_images(seed=seed, name=name) for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    )
    assert _pixels(first.images).tobytes() == _pixels(again.images).tobytes()
    assert _pixels(first.images).tobytes() != _pixels(other.images).tobytes()


def test_the_classes_can_be_told_apart_by_their_mean_colour(tiny_images: MakeTinyImages) -> None:
    tiny = tiny_images(classes=5, per_class=12)
    labels = np.array(tiny.labels)
    colours = _pixels(tiny.images).mean(axis=(1, 2))
    learnt, judged = np.arange(len(labels)) % 2 == 0, np.arange(len(labels)) % 2 == 1
    centres = [colours[learnt & (labels == name)].mean(axis=0) for name in tiny.classes]
    nearest = np.linalg.norm(colours[:, None] - np.array(centres), axis=2).argmin(axis=1)
    hits = np.array(tiny.classes)[nearest] == labels
    assert hits[judged].mean() > 0.9


def _pixels(folder: Path) -> np.ndarray:
    """All images of a folder in the order of their names, (images, size, size, 3)."""
    return np.stack([cv2.imread(str(path)) for path in sorted(folder.iterdir())])
