"""The mean of logits: a weighted geometric mean, renormalised.

The logarithmic opinion pool of Genest and Zidek, "Combining probability distributions: a critique
and an annotated bibliography", Statistical Science 1, 1986; Hinton's product of experts, 2002,
with exponents that sum to 1. A class that one member excludes stays improbable, where the
arithmetic mean would forgive it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ensemble.average import check_members, check_weights, in_blocks
from ensemble.kernels import readable
from ensemble.temperature_kernels import PROBABILITY_FLOOR, add_logs


def log_mean(probs: np.ndarray, weights: np.ndarray) -> NDArray[np.float64]:
    """softmax(sum_m w_m log p_m) for every row.

    `probs`: (M, n, C), exact zeros allowed: floored at 1e-12. `weights`: (M,), non-negative,
    summing to 1. Returns (n, C) float64, rows summing to 1. One member returns its own
    probabilities (to 1e-5 of each for float32, but for the floor). Raises ValueError on a shape
    mismatch or any NaN.
    """
    check_members(probs)
    check_weights(weights, len(probs))
    return in_blocks(probs, partial(log_mean_block, weights=weights))


def log_mean_block(members: Sequence[np.ndarray], weights: np.ndarray) -> NDArray[np.float64]:
    """`log_mean` of a few rows, unchecked: `members` are M arrays (b, C)."""
    total = np.zeros(members[0].shape)
    room = np.empty(total.size, np.float32)
    for proba, weight in zip(members, weights, strict=True):
        if weight and proba.dtype == np.float32:
            # At its own precision: several times faster.
            values = readable(proba).reshape(-1)
            add_logs(values, float(weight), total.reshape(-1), room)
        elif weight:
            total += weight * np.log(np.maximum(proba, PROBABILITY_FLOOR, dtype=np.float64))
    return softmax(total)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(b, C) with rows summing to 1, made in the place of `logits`."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits
