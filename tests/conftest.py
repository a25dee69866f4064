"""What every test gets: one thread for numerical libraries, a cache of its own, tiny images."""

from __future__ import annotations

import os

# Before any import of numpy or torch: they read these once. Many threads on tiny arrays only wait
# for each other, and the order of a sum, so the last digit of a result, would follow the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import numpy as np

# The same examples in every run, so that a change is judged by what it changes. Look for new ones
# now and then with HYPOTHESIS_PROFILE=default.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point `XDG_CACHE_HOME` to a folder of this test session: the user's cache stays untouched."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.delenv("COLUMNS", raising=False)  # xdist sets it: tables would be cut to its width
        patch.delenv("FOLDBLEND_CACHE_DIR", raising=False)
        yield folder


@dataclass(frozen=True)
class TinyImages:
    """The same JPEGs twice: `folder/<class>/<id>` and, flat, `images/<id>` with `csv` beside it.

    `csv` has the columns `id` (file name) and `label` (class name). `ids` and `labels` are its
    rows, in file order; `classes` is sorted.
    """

    root: Path
    folder: Path
    images: Path
    csv: Path
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    labels: tuple[str, ...]


class MakeTinyImages(Protocol):
    """`name` is the folder under `tmp_path`: give another one for a second set in one test."""

    def __call__(
        self,
        classes: int = 3,
        per_class: int = 6,
        size: int = 32,
        seed: int = 0,
        name: str = "tiny",
    ) -> TinyImages: ...


@pytest.fixture
def tiny_images(tmp_path: Path) -> MakeTinyImages:
    """A function that writes `classes * per_class` real JPEGs of `size` x `size` pixels.

    A class has a hue and a shape of its own at a random place over noise, so a small model
    separates the classes within a few steps while no two images are equal.
    """

    def make(
        classes: int = 3, per_class: int = 6, size: int = 32, seed: int = 0, name: str = "tiny"
    ) -> TinyImages:
        return _write_images(tmp_path / name, classes, per_class, size, seed)

    return make


def _write_images(root: Path, classes: int, per_class: int, size: int, seed: int) -> TinyImages:
    import cv2
    import numpy as np

    generator = np.random.default_rng(seed)
    names = tuple(f"class_{number:02d}" for number in range(classes))
    folder, images = root / "folder", root / "images"
    images.mkdir(parents=True)
    rows: list[tuple[str, str]] = []
    for number, label in enumerate(names):
        (folder / label).mkdir(parents=True)
        for copy in range(per_class):
            picture = _draw(number, classes, size, generator)
            image_id = f"{label}_{copy:03d}.jpg"
            for path in (folder / label / image_id, images / image_id):
                assert cv2.imwrite(str(path), picture), f"OpenCV could not write {path}"
            rows.append((image_id, label))
    table = root / "train.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "label"), *rows])
    ids, labels = zip(*rows, strict=True)
    return TinyImages(root, folder, images, table, names, ids, labels)


def _draw(
    number: int, classes: int, size: int, generator: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One image, (size, size, 3) uint8 in OpenCV's BGR: noise, and on it the class's shape."""
    import cv2
    import numpy as np

    hue = np.uint8(180 * number // max(classes, 1))  # OpenCV's hue runs from 0 to 179
    pixel = cv2.cvtColor(np.array([[[hue, 220, 230]]], dtype=np.uint8), cv2.COLOR_HSV2BGR)
    colour = tuple(int(channel) for channel in pixel[0, 0])
    picture = generator.integers(0, 90, (size, size, 3), dtype=np.uint8)
    x, y = (int(value) for value in generator.integers(size // 3, size - size // 3, 2))
    reach = max(size // 4, 2)
    if number % 3 == 0:
        cv2.circle(picture, (x, y), reach, colour, -1)
    elif number % 3 == 1:
        cv2.rectangle(picture, (x - reach, y - reach), (x + reach, y + reach), colour, -1)
    else:
        corners = np.array([(x, y - reach), (x - reach, y + reach), (x + reach, y + reach)])
        cv2.fillPoly(picture, [corners.astype(np.int32)], colour)
    return picture
