"""The weighted mean of members' probabilities, and the weights that know no preference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ensemble.metrics import Metric

WEIGHT_TOLERANCE = 1e-6
BLOCK_VALUES = 1 << 16  # probabilities worked on at once, so that they stay in the cache


def weighted_average(probs: np.ndarray, weights: np.ndarray) -> NDArray[np.float64]:
    """Average member probabilities.

    `probs`: (members, samples, classes), each row summing to 1. `weights`: (members,),
    non-negative, summing to 1 within 1e-6. Returns (samples, classes) float64. Members of weight
    0 cost nothing but their check. Raises ValueError on a shape mismatch or any NaN.
    """
    check_members(probs)
    check_weights(weights, len(probs))
    return in_blocks(probs, partial(mean_block, weights=weights))


def mean_block(members: Sequence[np.ndarray], weights: np.ndarray) -> NDArray[np.float64]:
    """`weighted_average` of a few rows, unchecked: `members` are M arrays (b, C)."""
    total = np.zeros(members[0].shape)
    product = np.empty(members[0].shape)
    for proba, weight in zip(members, weights, strict=True):
        if weight:
            # float64 weight times float32 rows would make a float32 product: widen first.
            np.multiply(proba, weight, out=product, dtype=np.float64)
            total += product
    return total


def equal_weights(probs: np.ndarray, labels: np.ndarray, metric: Metric) -> NDArray[np.float64]:
    """1/M for each of the M members of `probs` (M, N, C), whatever `labels` (N,) and `metric`
    say. Raises ValueError on a shape mismatch or any NaN."""
    check_members(probs, labels)
    return np.full(len(probs), 1.0 / len(probs))


def in_blocks(
    members: np.ndarray | Sequence[np.ndarray],
    combine: Callable[[Sequence[np.ndarray]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """(n, C) float64: what `combine` makes of the `members`, M arrays (n, C), a few rows at a time
    so that its temporaries stay small however many rows there are."""
    shape = members[0].shape
    out = np.empty(shape)
    for rows in row_blocks(*shape):
        out[rows] = combine([proba[rows] for proba in members])
    return out


def row_blocks(n_rows: int, n_values: int, block_values: int = BLOCK_VALUES) -> Iterator[slice]:
    """Slices over `n_rows` rows, each of about `block_values` values at `n_values` a row."""
    step = max(1, block_values // max(1, n_values))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def check_members(probs: np.ndarray, labels: np.ndarray | None = None) -> None:
    """Raise ValueError unless `probs` is (members, samples, classes) of values from 0 to 1 with at
    least one of each, and `labels`, where given, (samples,) of known class indices."""
    if probs.ndim != 3 or not probs.size:
        raise ValueError(
            f"expected probabilities of shape (members, samples, classes), got {probs.shape}"
        )
    for member, proba in enumerate(probs):
        check_member(member, proba)
    if labels is None:
        return
    n_rows, n_classes = probs.shape[1:]
    if labels.shape != (n_rows,):
        raise ValueError(f"expected labels of shape ({n_rows},), got {labels.shape}")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"expected labels from 0 to {n_classes - 1}, got {labels.min()} to {labels.max()}"
        )


def check_member(member: int, proba: np.ndarray) -> None:
    """Raise ValueError, naming the member, unless `proba` (n, C) has values from 0 to 1 only."""
    low, high = math.inf, -math.inf
    for rows in row_blocks(*proba.shape):  # the second look at a block finds it in the cache
        lowest, highest = float(proba[rows].min()), float(proba[rows].max())
        if math.isnan(lowest):
            raise ValueError(f"member {member}: expected probabilities, got NaN")
        low, high = min(low, lowest), max(high, highest)
    if low < 0.0 or high > 1.0 + WEIGHT_TOLERANCE:
        raise ValueError(f"member {member}: expected values from 0 to 1, got {low} to {high}")


def check_weights(weights: np.ndarray, n_members: int) -> None:
    """Raise ValueError unless `weights` is (members,), non-negative and sums to 1."""
    if weights.shape != (n_members,):
        raise ValueError(f"expected weights of shape ({n_members},), got {weights.shape}")
    total = float(np.sum(weights))
    if not (np.all(weights >= 0) and abs(total - 1.0) <= WEIGHT_TOLERANCE):
        raise ValueError(f"expected non-negative weights with a sum of 1, got a sum of {total}")


def true_class_matrix(probs: np.ndarray, labels: np.ndarray) -> NDArray[np.float64]:
    """(members, samples) float64: each member's probability of each row's true class. All that
    the log loss of a weighted mean needs of `probs` (members, samples, classes)."""
    return probs[:, np.arange(len(labels)), labels].astype(np.float64)
