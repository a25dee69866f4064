"""Multinomial logistic stacking on log probabilities.

Wolpert, "Stacked generalization", Neural Networks 5, 1992; Ting and Witten, "Issues in stacked
generalization", JAIR 10, 1999. Logits of the stack: sum_m x_m A_m + b, with x_m a member's log
probabilities and A_m = a_m I + D_m: one coefficient per member, the same for all classes, and,
unless those would be too many, one for every pair of classes.

All are pulled to the mean of logits, a_m = 1/M, D_m = 0 and b = 0, and not to 0, which would be a
uniform guess: with few rows a class, stacking begins where the plain blend stands, and moves the
few a_m long before the many D_m. (That, and classes without a label, are why scikit-learn's
estimator does not serve here.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from ensemble.average import check_members, in_blocks, row_blocks
from ensemble.class_weights import counted_rows
from ensemble.logit_mean import softmax
from ensemble.row_weights import row_shares

L2 = 10.0
CLIP = 1e-6  # one certainty that is wrong must not rule
MAX_PARAMETERS = 200_000  # of the form with all pairs of classes
MAX_ITERATIONS = 100
SLOPE = 1e-6  # nats per row
BLOCK_VALUES = 1 << 20
PRECISE_VALUES = 1 << 23  # up to so many log probabilities, products are made in float64
KEPT_BYTES = 1 << 29  # of log probabilities; more are computed anew in every pass

# Of a few rows: features, labels, shares.
Block = tuple[np.ndarray, NDArray[np.intp], NDArray[np.float64]]


def fit_stacking(
    probs: np.ndarray,
    labels: np.ndarray,
    *,
    row_weights: np.ndarray | None = None,
    l2: float = L2,
    max_parameters: int = MAX_PARAMETERS,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(coef, intercept): coef (M, C, C), the A_m from a member's class to the stack's, where M C^2
    is at most `max_parameters`, else the a_m (M,); intercept b (C,). Both float64.

    `probs`: (M, N, C), exact zeros allowed (clipped at 1e-6). `labels`: (N,). `row_weights`: (N,),
    None for all 1; their sum stands for the number of rows. Minimises the log loss summed over all
    rows plus l2 / 2 (M |a - 1/M|^2 + M |D|^2 + |b|^2): convex, by L-BFGS with at most 100
    iterations. A class without labels becomes improbable, not impossible. Raises ValueError on a
    shape mismatch, NaN, impossible row weights or an `l2` that is not above 0.
    """
    check_members(probs, labels)
    if not (np.isfinite(l2) and l2 > 0):
        raise ValueError(f"expected l2 above 0, got {l2}")
    shares = row_shares(row_weights, len(labels))
    n_members, _, n_classes = probs.shape
    pairs = n_members * n_classes**2 <= max_parameters
    pull = l2 / counted_rows(row_weights, len(labels))
    # The products are small: a second thread costs more than it does, above all where other work
    # keeps the machine busy.
    with threadpool_limits(1, user_api="blas"):
        return _Loss(probs, labels, shares, pull, pairs).minimised()


def stack(probs: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> NDArray[np.float64]:
    """softmax(sum_m log p_m A_m + b) for every row.

    `probs`: (M, n, C). `coef`, `intercept`: as `fit_stacking` gives them. Returns (n, C) float64,
    rows summing to 1. Raises ValueError on a shape mismatch or any NaN.
    """
    check_members(probs)
    check_coefficients(coef, intercept, len(probs), probs.shape[2])
    return in_blocks(probs, partial(stack_block, coef=coef, intercept=intercept))


def stack_block(
    members: Sequence[np.ndarray], coef: np.ndarray, intercept: np.ndarray
) -> NDArray[np.float64]:
    """`stack` of a few rows, unchecked: `members` are M arrays (b, C)."""
    logits = np.tile(intercept, (len(members[0]), 1))
    for proba, coefficients in zip(members, coef, strict=True):
        if coefficients.any():
            logs = log_features(proba).astype(np.float64)
            logits += logs @ coefficients if coefficients.ndim else logs * coefficients
    return softmax(logits)


def log_features(proba: np.ndarray) -> np.ndarray:
    """Log probabilities clipped at log 1e-6, each row's mean at 0. `proba`: (..., C), whose dtype
    is kept."""
    logs = np.log(np.maximum(proba, proba.dtype.type(CLIP)))
    return logs - logs.mean(axis=-1, keepdims=True)


def stacking_shares(coef: np.ndarray) -> NDArray[np.float64]:
    """(M,) on the simplex: each member's share of the absolute coefficients `coef`, (M,) or
    (M, C, C); equal where all are 0."""
    size = np.abs(coef).reshape(len(coef), -1).sum(axis=1)
    total = size.sum()
    return np.asarray(size / total) if total > 0 else np.full(len(coef), 1.0 / len(coef))


def check_coefficients(
    coef: np.ndarray, intercept: np.ndarray, n_members: int, n_classes: int
) -> None:
    """Raise ValueError unless `coef` is (M,) or (M, C, C) and `intercept` (C,), both finite."""
    shapes = ((n_members,), (n_members, n_classes, n_classes))
    if coef.shape not in shapes or intercept.shape != (n_classes,):
        raise ValueError(
            f"expected coefficients of shape {shapes[0]} or {shapes[1]} and an intercept "
            f"({n_classes},), got {coef.shape} and {intercept.shape}"
        )
    if not (np.all(np.isfinite(coef)) and np.all(np.isfinite(intercept))):
        raise ValueError("expected finite coefficients and intercept")


@dataclass(frozen=True, eq=False)
class _Loss:
    """The pulled log loss as a function of sqrt(M) (a - 1/M), sqrt(M) D and b: so scaled, it does
    not matter whether every member is there once or twice. Without `pairs` there is no D."""

    probs: np.ndarray
    labels: np.ndarray
    shares: NDArray[np.float64]
    pull: float
    pairs: bool

    def minimised(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n_members, _, n_classes = self.probs.shape
        keeps = self.probs.size * self._dtype.itemsize <= KEPT_BYTES
        kept = list(self._blocks()) if keeps else None
        found = minimize(
            lambda point: self._value(point, self._blocks() if kept is None else kept),
            np.zeros(n_members + self.pairs * n_members * n_classes**2 + n_classes),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": MAX_ITERATIONS, "gtol": SLOPE, "ftol": 1e-10},
        )
        return self._coefficients(found.x)

    def _coefficients(self, point: np.ndarray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n_members, _, n_classes = self.probs.shape
        moved, intercept = point[:-n_classes] / np.sqrt(n_members), point[-n_classes:]
        shared = 1.0 / n_members + moved[:n_members]
        if not self.pairs:
            return shared, intercept
        coef = moved[n_members:].reshape(n_members, n_classes, n_classes).copy()
        np.einsum("mcc->mc", coef)[...] += shared[:, None]
        return coef, intercept

    def _value(
        self, point: np.ndarray, blocks: Iterable[Block]
    ) -> tuple[float, NDArray[np.float64]]:
        coef, intercept = self._coefficients(point)
        narrow = coef.reshape(-1, len(intercept)) if self.pairs else coef
        narrow = narrow.astype(self._dtype)
        value, slopes, biases = 0.0, np.zeros(narrow.shape), np.zeros(len(intercept))
        for features, labels, shares in blocks:
            product = features @ narrow if self.pairs else narrow @ features
            logits = product.reshape(len(labels), -1) + intercept
            lost, residuals = _log_loss(logits, labels, shares)
            value += lost
            biases += residuals.sum(axis=0)
            flat = residuals.astype(self._dtype)
            slopes += features.T @ flat if self.pairs else features @ flat.ravel()
        gradient = np.concatenate([self._slopes(slopes.reshape(coef.shape)), biases])
        return value + 0.5 * self.pull * float(point @ point), gradient + self.pull * point

    def _slopes(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the coefficients, turned into those of the point."""
        root = np.sqrt(len(slopes))
        if not self.pairs:
            return slopes / root
        return np.concatenate([np.einsum("mcc->m", slopes), slopes.ravel()]) / root

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype(np.float64 if self.probs.size <= PRECISE_VALUES else np.float32)

    def _blocks(self) -> Iterator[Block]:
        """Log probabilities as (b, M C) with pairs, else (M, b C): what one product needs."""
        n_members, n_rows, n_classes = self.probs.shape
        for rows in row_blocks(n_rows, n_members * n_classes, BLOCK_VALUES):
            logs = log_features(self.probs[:, rows].astype(self._dtype))
            if self.pairs:
                logs = logs.transpose(1, 0, 2)
            yield logs.reshape(len(logs), -1), self.labels[rows], self.shares[rows]


def _log_loss(
    logits: NDArray[np.float64], labels: np.ndarray, shares: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """The weighted log loss of `logits` (b, C) and its gradient, in the place of `logits`."""
    rows = np.arange(len(labels))
    logits -= logits.max(axis=1, keepdims=True)
    known = logits[rows, labels]
    np.exp(logits, out=logits)
    total = logits.sum(axis=1)
    logits *= (shares / total)[:, None]
    logits[rows, labels] -= shares
    return float(shares @ (np.log(total) - known)), logits
