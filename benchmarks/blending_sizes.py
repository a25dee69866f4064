"""Made predictions for the blending benchmarks: models of known skill with shared errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

SHARED = 1.0  # standard deviation of the noise that all models have in common
FLOOR = 1e-4  # share of the uniform distribution in every prediction, as label smoothing leaves it
BLOCK_VALUES = 1 << 22  # probabilities made at once


@dataclass(frozen=True)
class Size:
    """Rows N, classes C, models M of a benchmark."""

    rows: int
    classes: int
    models: int

    def __str__(self) -> str:
        return f"{self.rows:,} x {self.classes} x {self.models}"


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "A": Size(15_021, 500, 12),
        "B": Size(33_000, 391, 15),
        "C": Size(50_000, 10, 50),
        "D": Size(1_570, 17, 200),
        "E": Size(20_000, 100, 100),
    }
)


def made_predictions(size: Size, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """probs (M, N, C) float32, rows summing to 1, and labels (N,).

    A model's logits are a bonus for the true class, noise shared by all models and noise of its
    own (0.3 to 1.0 standard deviations: its skill), at a sharpness of its own (its calibration).
    No probability is below 1e-4 / C, so that no two programs' floors differ on it.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(size.classes, size=size.rows)
    own = rng.uniform(0.3, 1.0, size=size.models)
    sharpness = rng.uniform(1.0, 3.5, size=size.models)
    bonus = 0.8 + 1.0 * math.sqrt(2.0 * math.log(size.classes))
    probs = np.empty((size.models, size.rows, size.classes), np.float32)
    step = max(1, BLOCK_VALUES // size.classes)
    for start in range(0, size.rows, step):
        rows = labels[start : start + step]
        shared = SHARED * rng.standard_normal((len(rows), size.classes), dtype=np.float32)
        shared[np.arange(len(rows)), rows] += np.float32(bonus)
        for model in range(size.models):
            noise = rng.standard_normal(shared.shape, dtype=np.float32)
            noise *= np.float32(own[model])
            noise += shared
            _softmax(noise, float(sharpness[model]))
            probs[model, start : start + step] = noise
    return probs, labels


def _softmax(logits: NDArray[np.float32], sharpness: float) -> None:
    """In place."""
    logits -= logits.max(axis=1, keepdims=True)
    logits *= np.float32(sharpness)
    np.exp(logits, out=logits)
    logits *= np.float32(1.0 - FLOOR) / logits.sum(axis=1, keepdims=True)
    logits += np.float32(FLOOR / logits.shape[1])
