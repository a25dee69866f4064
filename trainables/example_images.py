"""Four images that are always at hand: two of scikit-learn's photographs, a page, a sketch."""

from __future__ import annotations

import cv2
import numpy as np

from trainables.images import Pixels

INK = (35, 35, 40)
LINES = (
    "Dear members of the board,",
    "out of five folds come five models,",
    "and each of them predicts what it",
    "has not seen. Their mean is better",
    "than the best of them, because they",
    "are wrong about different things.",
    "Please find the figures below and",
    "send your answer within two weeks.",
)


def example_images() -> dict[str, Pixels]:
    """Name to uint8 RGB (H, W, 3): flower, page, sketch, china."""
    from sklearn.datasets import load_sample_images  # slow to import, and only needed here

    photographs = load_sample_images()
    found = {
        name.replace("\\", "/").rpartition("/")[2].removesuffix(".jpg"): np.asarray(image, np.uint8)
        for name, image in zip(photographs.filenames, photographs.images, strict=True)
    }
    return {
        "flower": found["flower"],
        "page": drawn_page(),
        "sketch": drawn_sketch(),
        "china": found["china"],
    }


def drawn_page() -> Pixels:
    """A letter with a heading, lines of text and a table, (566, 400, 3)."""
    page = np.full((566, 400, 3), 255, np.uint8)
    cv2.rectangle(page, (36, 34), (110, 62), (40, 70, 140), -1)
    _write(page, "Report", (128, 60), 1.0, 2)
    for number, line in enumerate(LINES):
        _write(page, line, (36, 120 + 32 * number), 0.52, 1)
    for row in range(5):
        cv2.line(page, (36, 390 + 32 * row), (364, 390 + 32 * row), INK, 1)
    for column in range(4):
        across = 36 + round(column * 328 / 3)
        cv2.line(page, (across, 390), (across, 518), INK, 1)
    for row in range(4):
        _write(page, f"fold {row + 1}", (46, 412 + 32 * row), 0.5, 1)
        _write(page, f"0.{9 + row}", (156, 412 + 32 * row), 0.5, 1)
    return page


def drawn_sketch() -> Pixels:
    """A fish by a few thin black strokes on white, (320, 320, 3)."""
    sketch = np.full((320, 320, 3), 255, np.uint8)
    cv2.ellipse(sketch, (140, 165), (95, 62), 0, 25, 340, INK, 3, cv2.LINE_AA)
    tail = np.array([[226, 140], [292, 100], [276, 168], [294, 232], [224, 192]], np.int32)
    cv2.polylines(sketch, [tail], False, INK, 3, cv2.LINE_AA)
    cv2.circle(sketch, (92, 146), 9, INK, 3, cv2.LINE_AA)
    cv2.ellipse(sketch, (64, 190), (22, 14), 0, -20, 70, INK, 3, cv2.LINE_AA)
    cv2.ellipse(sketch, (120, 168), (30, 48), 0, -60, 60, INK, 2, cv2.LINE_AA)
    fin = np.array([[120, 106], [150, 66], [190, 78], [196, 116]], np.int32)
    cv2.polylines(sketch, [fin], False, INK, 3, cv2.LINE_AA)
    for across, down in ((176, 150), (192, 176), (172, 190)):
        cv2.ellipse(sketch, (across, down), (9, 10), 0, -70, 70, INK, 2, cv2.LINE_AA)
    return sketch


def _write(page: Pixels, text: str, at: tuple[int, int], scale: float, width: int) -> None:
    cv2.putText(page, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, width, cv2.LINE_AA)
