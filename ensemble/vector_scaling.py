"""Vector scaling of probabilities: every class has a scale and a bias of its own.

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, section
4.2, on log probabilities instead of logits: softmax(a_c log p_c + b_c).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ensemble.kernels import compiled
from ensemble.metrics import check_labelled
from ensemble.row_weights import row_shares
from ensemble.temperature import fit_temperature
from ensemble.temperature_kernels import PROBABILITY_FLOOR, exp_scaled, log_of, shift_rows

# Scales and biases that differ between classes by about 0.6 are expected: a normal distribution of
# that width is worth 1 / 0.6^2 rows. A class of many more is fitted as if there were no pull;
# without any, classes of few rows run away.
PULL = 3.0
MAX_ITERATIONS = 200
BLOCK_VALUES = 1 << 16  # probabilities worked on at once, so that they stay in the cache


def fit_vector_scaling(
    proba: np.ndarray,
    labels: np.ndarray,
    *,
    row_weights: np.ndarray | None = None,
    l2: float = PULL,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(scale (C,), bias (C,)) that minimise the mean log loss of softmax(scale log p + bias) plus
    l2 / (2 N) sum_c ((scale_c - 1/T)^2 + bias_c^2), a pull to what one temperature T, fitted on
    the same rows, does to all classes: to the identity where they are calibrated already.

    `proba`: (N, C), exact 0 and 1 allowed (floored at 1e-12). `labels`: (N,), all known.
    `row_weights`: (N,), None for all 1. `l2`: 0 or more, nats for all rows together; weighted rows
    count as N = sum(w)^2 / sum(w^2) (Kish 1965). On these very rows never worse than that
    temperature, and so never worse than the identity. The loss is convex; L-BFGS with analytic
    gradients. Raises ValueError on a shape mismatch, NaN, or an impossible l2 or row weight.
    """
    check_labelled(labels, proba)
    if not (math.isfinite(l2) and l2 >= 0.0):
        raise ValueError(f"expected an l2 of 0 or more, got {l2}")
    n_classes = proba.shape[1]
    shares = row_shares(row_weights, len(labels))
    logs = np.empty(proba.shape, dtype=np.float32)
    log_of(np.ascontiguousarray(proba, dtype=np.float32).reshape(-1), logs.reshape(-1))
    known = labels.astype(np.int64)
    temperature = fit_temperature(proba, labels, row_weights=row_weights)
    pull = l2 * float(shares @ shares)  # the shares sum to 1: this is l2 / N
    start = np.concatenate([np.full(n_classes, 1.0 / temperature), np.zeros(n_classes)])

    def objective(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        away = parameters - start
        loss, slopes = _loss(logs, known, shares, parameters[:n_classes], parameters[n_classes:])
        return loss + 0.5 * pull * float(away @ away), slopes + pull * away

    loss_at_start = objective(start)[0]
    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS, "ftol": 1e-10, "gtol": 1e-6},
    )
    best = found.x if found.fun < loss_at_start and np.isfinite(found.x).all() else start
    return best[:n_classes].copy(), best[n_classes:].copy()


def apply_vector_scaling(
    proba: np.ndarray, scale: np.ndarray, bias: np.ndarray
) -> NDArray[np.float64]:
    """softmax(scale log p + bias) of `proba` (N, C), as (N, C) float64; `scale`, `bias`: (C,).
    Probabilities are floored at 1e-12. Raises ValueError on another number of classes."""
    if proba.ndim != 2 or not scale.shape == bias.shape == proba.shape[1:]:
        raise ValueError(
            f"expected a scale and a bias for each of the classes of {proba.shape} probabilities, "
            f"got {scale.shape} and {bias.shape}"
        )
    scaled = np.empty(proba.shape)
    rows = max(1, BLOCK_VALUES // max(1, proba.shape[1]))
    for start in range(0, len(proba), rows):
        block = scaled[start : start + rows]
        np.maximum(proba[start : start + rows], PROBABILITY_FLOOR, out=block)
        np.log(block, out=block)
        block *= scale
        block += bias
        block -= block.max(axis=1, keepdims=True)
        np.exp(block, out=block)
        block /= block.sum(axis=1, keepdims=True)
    return scaled


@compiled(fastmath=("contract",))
def _loss(
    logs: np.ndarray, labels: np.ndarray, shares: np.ndarray, scale: np.ndarray, bias: np.ndarray
) -> tuple[float, NDArray[np.float64]]:
    """The mean log loss of softmax(scale logs + bias), and its derivatives in scale and bias
    (2 C,). `logs` (N, C) float32; float32 in a row, float64 over rows."""
    n_rows, n_classes = logs.shape
    slopes = np.zeros(2 * n_classes)
    of_scale, of_bias = slopes[:n_classes], slopes[n_classes:]
    scale_single, bias_single = scale.astype(np.float32), bias.astype(np.float32)
    scores = np.empty(n_classes, np.float32)
    mass = np.empty(n_classes, np.float32)
    loss = 0.0
    for row in range(n_rows):
        log = logs[row]
        for c in range(n_classes):
            scores[c] = scale_single[c] * log[c] + bias_single[c]
        shift_rows(scores, n_classes)
        exp_scaled(scores, 1.0, mass)
        total = 0.0
        for c in range(n_classes):
            total += mass[c]
        share, label = shares[row], labels[row]
        loss += share * (math.log(total) - scores[label])
        for c in range(n_classes):
            part = share / total * mass[c]
            of_bias[c] += part
            of_scale[c] += part * log[c]
        of_bias[label] -= share
        of_scale[label] -= share * log[label]
    return loss, slopes
