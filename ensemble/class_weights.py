"""Weights of their own for every class: members differ in what they know.

p_c is proportional to sum_m W_mc p_mc, with sum_m W_mc = 1 for each class. Fitted for log loss
from the convex optimum w, the same for all classes, towards which it is pulled:

    W_mc = w_m exp(t_mc) / sum_j w_j exp(t_jc),   plus  l2 / 2 sum_mc w_m t_mc^2

in nats over all rows, so the pull is worth about `l2` rows of each class: classes with fewer rows
stay near w. Members without weight in w have none here. (Class-dependent linear combination: Ting
and Witten, "Issues in stacked generalization", JAIR 10, 1999, without their bias and sign.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from ensemble.average import check_members, in_blocks, row_blocks
from ensemble.convex import fit_convex
from ensemble.metrics import LOG_LOSS_FLOOR
from ensemble.row_weights import row_shares

L2 = 10.0
MAX_ITERATIONS = 100
SLOPE = 1e-6  # nats per row and unit of a scaled t
LARGEST_FACTOR = 12.0  # of |t|: exp(12) times w is as good as all of it
BLOCK_VALUES = 1 << 20
PRECISE_VALUES = 1 << 23  # up to so many probabilities, products are made in float64


def fit_class_weights(
    probs: np.ndarray,
    labels: np.ndarray,
    *,
    row_weights: np.ndarray | None = None,
    l2: float = L2,
) -> NDArray[np.float64]:
    """(M, C) float64, non-negative, each column summing to 1.

    `probs`: (M, N, C). `labels`: (N,). `row_weights`: (N,), None for all 1; their sum stands for
    the number of rows. `l2`: rows' worth of pull to weights that are the same for all classes.
    A class without labels keeps nearly those. In-sample the loss is at most that of the convex
    optimum (of probabilities floored at 1e-7). Raises ValueError on a shape mismatch, NaN,
    impossible row weights or a negative `l2`.
    """
    check_members(probs, labels)
    if not (np.isfinite(l2) and l2 >= 0):
        raise ValueError(f"expected l2 of at least 0, got {l2}")
    shares = row_shares(row_weights, len(labels))
    p_true = probs[:, np.arange(len(labels)), labels]
    same, _ = fit_convex(p_true, row_weights=row_weights)
    active = np.flatnonzero(same)
    matrix = np.zeros((len(probs), probs.shape[2]))
    matrix[active] = same[active, None]
    if len(active) > 1:
        pull = l2 / counted_rows(row_weights, len(labels))
        loss = _Loss(probs, active, labels, shares, _floored(p_true[active]), same[active], pull)
        # The products are small: a second thread costs more than it does, above all where other
        # work keeps the machine busy.
        with threadpool_limits(1, user_api="blas"):
            matrix[active] = loss.minimised()
    return matrix


def class_mean(probs: np.ndarray, class_weights: np.ndarray) -> NDArray[np.float64]:
    """sum_m W_mc p_mc for every class, each row divided by its sum.

    `probs`: (M, n, C). `class_weights` W: (M, C), non-negative, not all zero for any class.
    Returns (n, C) float64. Weights that are the same for all classes give the weighted mean; one
    member returns its own probabilities. Raises ValueError on a shape mismatch or any NaN.
    """
    check_members(probs)
    check_class_weights(class_weights, (len(probs), probs.shape[2]))
    return in_blocks(probs, partial(class_mean_block, class_weights=class_weights))


def class_mean_block(
    members: Sequence[np.ndarray], class_weights: np.ndarray
) -> NDArray[np.float64]:
    """`class_mean` of a few rows, unchecked: `members` are M arrays (b, C)."""
    total = np.zeros(members[0].shape)
    for proba, weights in zip(members, class_weights, strict=True):
        if weights.any():
            total += np.multiply(proba, weights, dtype=np.float64)
    mass = total.sum(axis=1, keepdims=True)
    # A row whose whole probability lies where its members have no weight says nothing.
    uniform = np.full_like(total, 1.0 / members[0].shape[1])
    return np.divide(total, mass, out=uniform, where=mass > 0)


def check_class_weights(class_weights: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `class_weights` are (M, C), finite, non-negative, and above 0 for
    some member of every class."""
    if class_weights.shape != shape:
        raise ValueError(f"expected class weights of shape {shape}, got {class_weights.shape}")
    if not (np.all(np.isfinite(class_weights)) and class_weights.min() >= 0):
        raise ValueError("expected finite class weights of at least 0")
    nobody = np.flatnonzero(~class_weights.any(axis=0))
    if len(nobody):
        raise ValueError(f"expected a member with weight for class {nobody[0]}, got none")


def counted_rows(row_weights: np.ndarray | None, n_rows: int) -> float:
    """How many rows `row_weights` (N,) stand for, against a pull that is counted in rows: their
    sum, as a whole number means repeated rows, but no fewer than there are rows with weight, so
    that weights which sum to 1 are not taken for a single row."""
    if row_weights is None:
        return float(n_rows)
    return max(float(row_weights.sum(dtype=np.float64)), float(np.count_nonzero(row_weights)))


def _floored(p_true: np.ndarray) -> NDArray[np.float64]:
    return np.maximum(p_true, LOG_LOSS_FLOOR, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Loss:
    """The pulled log loss of K active members as a function of u = sqrt(w) t, in which the pull is
    round and copies of a member change nothing. `p_true`: (K, N) floored; `same`: w (K,)."""

    probs: np.ndarray
    active: NDArray[np.intp]
    labels: np.ndarray
    shares: NDArray[np.float64]
    p_true: NDArray[np.float64]
    same: NDArray[np.float64]
    pull: float

    def minimised(self) -> NDArray[np.float64]:
        """(K, C): the weights of least loss."""
        shape = (len(self.active), self.probs.shape[2])
        bound = np.repeat(LARGEST_FACTOR * np.sqrt(self.same), shape[1])
        found = minimize(
            self,
            np.zeros(shape[0] * shape[1]),
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([-bound, bound], axis=1),
            options={"maxiter": MAX_ITERATIONS, "gtol": SLOPE, "ftol": 1e-10},
        )
        return self._weights(found.x)

    def __call__(self, point: np.ndarray) -> tuple[float, NDArray[np.float64]]:
        weights = self._weights(point)
        known = np.einsum("mn,mn->n", weights[:, self.labels], self.p_true)
        total, slopes = self._of_totals(weights)
        value = self.shares @ (np.log(total) - np.log(known))
        ratio = self.p_true * (self.shares / known)
        for member, row in enumerate(ratio):
            slopes[member] -= np.bincount(self.labels, weights=row, minlength=weights.shape[1])
        slopes -= (weights * slopes).sum(axis=0)
        slopes *= weights / np.sqrt(self.same)[:, None]
        pulled = value + 0.5 * self.pull * float(point @ point)
        return pulled, slopes.ravel() + self.pull * point

    def _weights(self, point: np.ndarray) -> NDArray[np.float64]:
        factors = point.reshape(len(self.same), -1) / np.sqrt(self.same)[:, None]
        weights = self.same[:, None] * np.exp(factors - factors.max(axis=0))
        return np.asarray(weights / weights.sum(axis=0))

    def _of_totals(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Each row's sum_mc W_mc p_mc (N,), and the gradient of its mean logarithm (K, C)."""
        total = np.empty(len(self.labels))
        slopes = np.zeros(weights.shape)
        precise = len(self.active) * len(total) * weights.shape[1] <= PRECISE_VALUES
        dtype = np.dtype(np.float64 if precise else np.float32)
        narrow = weights.astype(dtype)
        for rows in row_blocks(len(total), weights.size, BLOCK_VALUES):
            blocks = [self.probs[member, rows].astype(dtype, copy=False) for member in self.active]
            total[rows] = sum(block @ row for block, row in zip(blocks, narrow, strict=True))
            coefficients = (self.shares[rows] / total[rows]).astype(dtype)
            for member, block in enumerate(blocks):
                slopes[member] += coefficients @ block
        return total, slopes
