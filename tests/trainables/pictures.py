"""Photographs that scikit-learn brings along, as stored squares."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_sample_images


@functools.cache
def _photographs() -> tuple[npt.NDArray[np.uint8], ...]:
    return tuple(np.asarray(image, np.uint8) for image in load_sample_images().images)


def squares(n: int, side: int) -> npt.NDArray[np.uint8]:
    """(n, side, side, 3) uint8: different parts of two photographs."""
    generator = np.random.default_rng(0)
    made = np.empty((n, side, side, 3), np.uint8)
    for i in range(n):
        photograph = _photographs()[i % 2]
        y, x = generator.integers(0, 100, 2)
        part = photograph[y : y + 320, x : x + 400]
        made[i] = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)
    return made
