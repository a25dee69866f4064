"""The mean of ranks: every member's probabilities are first put on one scale.

A member's probability is replaced by its rank among all that the member said of the rows it was
fitted on: the empirical distribution function, monotone, so a member that is only over- or
underconfident ranks as if it were not. What comes out are ranks renormalised row by row, no
calibrated probabilities: good for decisions; a calibration afterwards mends the rest. The map is
fixed at fitting time, so a row's result does not depend on the other rows beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ensemble.average import check_members, check_weights, in_blocks
from ensemble.metrics import check_row_weights

N_LEVELS = 512


def fit_rank_grid(probs: np.ndarray, row_weights: np.ndarray | None = None) -> NDArray[np.float64]:
    """(M, 512) float64: quantiles of each member's probabilities, rows and classes pooled, at
    `rank_levels(512)`.

    `probs`: (M, N, C). `row_weights`: (N,), None for all 1. Each quantile is one of the member's
    own values. Raises ValueError on a shape mismatch, NaN or impossible row weights.
    """
    check_members(probs)
    check_row_weights(row_weights, probs.shape[1])
    return np.stack([_quantiles(proba, row_weights) for proba in probs])


def rank_levels(n_levels: int) -> NDArray[np.float64]:
    """(n_levels,) ascending within (0, 1), dense towards 1: with C classes a row's largest
    probability lies among the last 1/C of all."""
    return 1.0 - (1.0 - (np.arange(n_levels) + 0.5) / n_levels) ** 3


def rank_mean(probs: np.ndarray, weights: np.ndarray, grid: np.ndarray) -> NDArray[np.float64]:
    """The weighted mean of the members' ranks, each row divided by its sum.

    `probs`: (M, n, C). `weights`: (M,), non-negative, summing to 1. `grid`: (M, Q) as
    `fit_rank_grid` makes it. Returns (n, C) float64. Equal probabilities of a member get equal
    ranks, greater ones never lower ranks: one member keeps the order of its classes. Raises
    ValueError on a shape mismatch or any NaN.
    """
    check_members(probs)
    check_weights(weights, len(probs))
    check_grid(grid, len(probs))
    return in_blocks(probs, partial(rank_mean_block, weights=weights, grid=grid))


def rank_mean_block(
    members: Sequence[np.ndarray], weights: np.ndarray, grid: np.ndarray
) -> NDArray[np.float64]:
    """`rank_mean` of a few rows, unchecked: `members` are M arrays (b, C)."""
    total = np.zeros(members[0].shape)
    for proba, weight, quantiles in zip(members, weights, grid, strict=True):
        if weight:
            total += weight * np.interp(proba, *_knots(quantiles))
    total /= total.sum(axis=1, keepdims=True)
    return total


def check_grid(grid: np.ndarray, n_members: int) -> None:
    """Raise ValueError unless `grid` is (M, Q) of values from 0 to 1, ascending for each member."""
    if grid.ndim != 2 or len(grid) != n_members or not grid.size:
        raise ValueError(f"expected a grid of {n_members} members' quantiles, got {grid.shape}")
    if not (np.all(np.diff(grid) >= 0) and grid.min() >= 0 and grid.max() <= 1.0 + 1e-6):
        raise ValueError("expected quantiles from 0 to 1 that ascend for each member")


def _quantiles(proba: np.ndarray, row_weights: np.ndarray | None) -> NDArray[np.float64]:
    """The least value whose share of the weight, with all below it, reaches each level."""
    levels = rank_levels(N_LEVELS)
    if row_weights is None:
        ordered = np.sort(proba, axis=None)
        reached = np.ceil(levels * ordered.size).astype(np.intp) - 1
    else:
        order = np.argsort(proba, axis=None)
        ordered = proba.ravel()[order]
        cumulated = np.cumsum(row_weights.astype(np.float64)[order // proba.shape[1]])
        reached = np.searchsorted(cumulated, levels * cumulated[-1])
    return ordered[np.clip(reached, 0, ordered.size - 1)].astype(np.float64)


def _knots(quantiles: np.ndarray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values, strictly ascending from 0 to 1, and their ranks, strictly ascending in [0, 1].

    A value that fills several levels gets their middle, the mid-rank of ties. 0 and 1 end the
    scale, so that values beyond all that was seen still have an order.
    """
    levels = rank_levels(len(quantiles))
    values, first, count = np.unique(quantiles, return_index=True, return_counts=True)
    ranks = 0.5 * (levels[first] + levels[first + count - 1])
    if values[0] > 0.0:
        values, ranks = np.append(0.0, values), np.append(0.0, ranks)
    if values[-1] < 1.0:
        values, ranks = np.append(values, 1.0), np.append(ranks, 1.0)
    return values, ranks
