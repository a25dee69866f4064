"""scikit-learn's handwritten digits as image files: a data set that is always at hand."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from trainables.errors import DataError
from trainables.seeds import derive_seed

TRAIN_ROWS = 1500


def write_digits(directory: Path) -> Path:
    """Write the 1,797 digits under `directory` and return it; do nothing when they are there.

    `train.csv` (id, label) names the first 1,500 of a fixed shuffled order, in `train/`; the other
    297 are in `test/`, without labels, with `sample_submission.csv` (every label 0). Images are
    8 x 8 grey PNG, their values 0..16 spread over 0..255. Two processes may call this at once: each
    builds aside, the first to rename wins. Raises DataError when something else is in the place.
    """
    directory = Path(directory)
    if _is_complete(directory):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        _write_all(temporary)
        temporary.chmod(0o755)  # mkdtemp's 0700 would hide the images from a shared group
        _rename(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory


def _rename(temporary: Path, directory: Path) -> None:
    try:
        os.rename(temporary, directory)
    except OSError as error:
        if not _is_complete(directory):
            raise DataError(
                f"{directory}: holds something else than the digits; "
                "remove it or set data.cache_dir to another folder"
            ) from error


def _is_complete(directory: Path) -> bool:
    return (directory / "train.csv").is_file()


def _write_all(directory: Path) -> None:
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    digits = load_digits()
    order = np.random.default_rng(derive_seed("digits")).permutation(len(digits.target))
    pixels = np.round(digits.images[order] * (255 / 16)).astype(np.uint8)
    names = [f"{number:04d}.png" for number in range(len(pixels))]
    _write_images(directory / "train", names[:TRAIN_ROWS], pixels[:TRAIN_ROWS])
    _write_images(directory / "test", names[TRAIN_ROWS:], pixels[TRAIN_ROWS:])
    labels = [str(label) for label in digits.target[order[:TRAIN_ROWS]]]
    _write_table(directory / "train.csv", names[:TRAIN_ROWS], labels)
    placeholders = ["0"] * (len(names) - TRAIN_ROWS)
    _write_table(directory / "sample_submission.csv", names[TRAIN_ROWS:], placeholders)


def _write_images(folder: Path, names: Sequence[str], pixels: npt.NDArray[np.uint8]) -> None:
    folder.mkdir()
    for name, image in zip(names, pixels, strict=True):
        encoded = cv2.imencode(".png", image)[1]
        (folder / name).write_bytes(encoded.tobytes())


def _write_table(path: Path, ids: Sequence[str], labels: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "label"))
        writer.writerows(zip(ids, labels, strict=True))
