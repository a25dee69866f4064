"""Temperature scaling of probabilities.

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, section
4.2. On probabilities instead of logits: softmax(log p / T), the same thing.

The loss is a smooth convex function of beta = 1/T. One pass over the rows gives its first five
derivatives for every fold at once; the minimum of the loss over any choice of folds is then the
root of a quartic, right to the last digit that matters if the step is small. So one or two passes
over all rows answer for every set of held-out folds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ensemble.metrics import check_labelled
from ensemble.row_weights import row_shares
from ensemble.temperature_kernels import PROBABILITY_FLOOR, cumulant_sums, temper_rows

MIN_TEMPERATURE = 0.05
MAX_TEMPERATURE = 20.0
FLAT = 1e-9  # nats per unit of 1/T: with less slope than this there is nothing left to gain
BRACKET = 1e-8  # of log T
STEP_ERROR = 2e-6  # of T, the most that the last step may leave out by its own estimate
SAMPLE_ERROR = 0.01  # the same where a sample of the rows shall show the neighbourhood
MAX_STEPS = 100
TAYLOR_ROUNDS = 20
# Passes are made at powers of the first, near the end of the second, so that sets of folds share
# them without sharing what they learned from their labels.
GRIDS = (1.08, 1.01)
SAMPLE_STRIDE = 8  # every eighth row finds the neighbourhood, all rows the place
SAMPLE_ROWS = 500  # the least that such a sample must have
BLOCK_VALUES = 1 << 16  # probabilities worked on at once, so that they stay in the cache

# beta -> (folds, 7): what `cumulant_sums` says there.
Passes = Callable[[float], NDArray[np.float64]]


def fit_temperature(
    proba: np.ndarray, labels: np.ndarray, *, row_weights: np.ndarray | None = None
) -> float:
    """The T in [0.05, 20] that minimises the log loss of softmax(log p / T).

    `proba`: (N, C), exact 0 and 1 allowed (floored at 1e-12). `labels`: (N,), all known.
    `row_weights`: (N,), None for all 1. Returns 1 where the loss is flat there (less than 1e-9
    nats per unit of 1/T). Raises ValueError on a shape mismatch, NaN or impossible row weights.
    """
    whole = [frozenset[int]()]
    return float(
        fit_temperatures_without(
            proba, labels, np.zeros(len(labels), np.int64), whole, row_weights=row_weights
        )[0]
    )


def fit_temperatures_without(
    proba: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    held_out: Sequence[frozenset[int]],
    *,
    row_weights: np.ndarray | None = None,
) -> NDArray[np.float64]:
    """For each of the S sets of folds in `held_out` the temperature fitted on the rows of all
    other folds, as `fit_temperature` on those rows would: (S,) float64. The empty set is all rows.

    `folds`: (N,) int; the rest as in `fit_temperature`. The passes over the rows are shared
    between the sets, their labels are not: where the passes are made for a set, and what comes
    out, follows from its own rows alone. Raises ValueError as `fit_temperature` does, and where a
    set leaves no row of weight above 0.
    """
    check_labelled(labels, proba)
    if folds.shape != labels.shape:
        raise ValueError(f"expected one fold for each of {len(labels)} rows, got {folds.shape}")
    shares = row_shares(row_weights, len(labels))
    names, codes = _fold_codes(folds)
    arrays = _single(proba), labels.astype(np.int64), shares, codes, len(names)
    fold_shares = np.bincount(codes, weights=shares, minlength=len(names))
    kept = [np.array([name not in without for name in names.tolist()]) for without in held_out]
    for without, keep in zip(held_out, kept, strict=True):
        if not fold_shares[keep].sum() > 0.0:
            raise ValueError(
                f"expected rows outside the held-out folds {sorted(without)}, got none of weight "
                f"above 0 in folds {names.tolist()}: hold out fewer folds"
            )

    @cache
    def every_row(beta: float) -> NDArray[np.float64]:
        return np.asarray(cumulant_sums(*arrays, beta, 1))

    @cache
    def sample(beta: float) -> NDArray[np.float64]:
        return np.asarray(cumulant_sums(*arrays, beta, SAMPLE_STRIDE))

    sampled = len(labels) >= SAMPLE_STRIDE * SAMPLE_ROWS
    return np.array(
        [1.0 / _inverse_temperature(every_row, sample if sampled else None, keep) for keep in kept]
    )


def apply_temperature(proba: np.ndarray, temperature: float) -> NDArray[np.float64]:
    """softmax(log p / T) of `proba` (N, C), as (N, C) float64. T = 1 returns the same
    probabilities renormalised, its exact zeros kept. Raises ValueError unless 0 < T < inf."""
    _check_temperature(temperature)
    tempered = np.empty(proba.shape)
    rows = max(1, BLOCK_VALUES // max(1, proba.shape[1]))
    for start in range(0, len(proba), rows):
        block = tempered[start : start + rows]
        if temperature == 1.0:
            block[:] = proba[start : start + rows]
        else:
            np.maximum(proba[start : start + rows], PROBABILITY_FLOOR, out=block)
            np.log(block, out=block)
            block -= block.max(axis=1, keepdims=True)
            block /= temperature
            np.exp(block, out=block)
        block /= block.sum(axis=1, keepdims=True)
    return tempered


def temper(
    proba: np.ndarray, temperature: float, *, out: np.ndarray | None = None
) -> NDArray[np.float32]:
    """`apply_temperature` in float32, compiled and several times as fast; each probability is right
    to 3e-7. `proba`: (N, C). `out`: (N, C) float32, C-contiguous, may be `proba` itself; None makes
    a new array. Raises ValueError unless 0 < T < inf, and for another `out`."""
    _check_temperature(temperature)
    if out is None:
        out = np.empty(proba.shape, dtype=np.float32)
    elif out.shape != proba.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(
            f"expected out of shape {proba.shape}, float32 and C-contiguous, "
            f"got {out.shape} {out.dtype}"
        )
    if temperature == 1.0:
        np.divide(proba, proba.sum(axis=1, keepdims=True), out=out, casting="same_kind")
    elif proba.size:
        temper_rows(_single(proba), 1.0 / temperature, out)
    return out


def _check_temperature(temperature: float) -> None:
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"expected a temperature above 0, got {temperature}")


def _single(proba: np.ndarray) -> NDArray[np.float32]:
    return np.ascontiguousarray(proba, dtype=np.float32)


def _fold_codes(folds: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    names = np.unique(folds)
    return names.astype(np.int64), np.searchsorted(names, folds).astype(np.int64)


def _inverse_temperature(
    every_row: Passes, sample: Passes | None, keep: NDArray[np.bool_]
) -> float:
    """The beta of least loss over the rows of the folds in the mask `keep` (K,)."""
    start = 1.0
    if sample is not None and sample(1.0)[keep, 0].sum() > 0.0:
        start = _on_grid(_minimum(sample, keep, start, SAMPLE_ERROR), GRIDS[0])
    beta = _minimum(every_row, keep, start, STEP_ERROR)
    return min(max(beta, 1.0 / MAX_TEMPERATURE), 1.0 / MIN_TEMPERATURE)


def _minimum(passes: Passes, keep: NDArray[np.bool_], beta: float, tolerance: float) -> float:
    """The beta within the bounds at which the loss over the folds `keep` is least, to a relative
    error of `tolerance`: steps along the Taylor series, kept inside a shrinking bracket."""
    low, high = 1.0 / MAX_TEMPERATURE, 1.0 / MIN_TEMPERATURE
    untried = {low, high}
    for _ in range(MAX_STEPS):
        share, target, *cumulants = passes(beta)[keep].sum(axis=0).tolist()
        slope = (cumulants[0] - target) / share
        if abs(slope) <= FLAT:
            return beta
        low, high = (beta, high) if slope < 0 else (low, beta)
        if math.log(high / low) <= BRACKET:
            return beta
        step, error = _taylor_step(slope, [value / share for value in cumulants[1:]])
        beta_there = beta + step
        if low < beta_there < high:
            if error <= tolerance * beta:
                return beta_there
            shared = (_on_grid(beta_there, grid) for grid in GRIDS)
            beta = next((near for near in shared if low < near < high), beta_there)
            continue
        edge = high if slope < 0 else low  # a bound is tried once, before the bracket is halved
        beta = edge if edge in untried else math.sqrt(low * high)
        untried.discard(edge)
    return beta


def _taylor_step(slope: float, cumulants: Sequence[float]) -> tuple[float, float]:
    """The root nearest 0 of slope + c_2 h + c_3 h^2 / 2! + c_4 h^3 / 3! + c_5 h^4 / 4!, which is
    the loss's derivative at a distance of h, and how far off the truth it may be: the terms left
    out are taken for a geometric series that goes on as it began."""
    second = cumulants[0]
    if not second > 0.0:
        return math.copysign(math.inf, -slope), math.inf
    b, c, d = (value / second / n for value, n in zip(cumulants[1:], (2.0, 6.0, 24.0), strict=True))
    newton = step = -slope / second
    for _ in range(TAYLOR_ROUNDS):
        value = step * (1.0 + step * (b + step * (c + step * d))) - newton
        change = 1.0 + step * (2.0 * b + step * (3.0 * c + step * 4.0 * d))
        if change <= 0.1 or abs(step) > 4.0 * abs(newton):
            return newton, math.inf
        step -= value / change
        if abs(value) <= 1e-12 * abs(step):
            break
    size = abs(step)
    ratio = size * max(abs(b), abs(c) ** (1.0 / 2.0), abs(d) ** (1.0 / 3.0))
    return step, size * ratio**4


def _on_grid(beta: float, grid: float) -> float:
    """The nearest power of `grid`; 1 is one of them."""
    return float(grid ** round(math.log(beta) / math.log(grid)))
