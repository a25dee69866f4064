"""Temperature scaling of probabilities.

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, section
4.2. On probabilities instead of logits: softmax(log p / T), the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ensemble.metrics import check_labelled

MIN_TEMPERATURE = 0.05
MAX_TEMPERATURE = 20.0
# An exact 0 or 1 is a rounded logit; its logarithm must stay finite. Small enough that a thousand
# floored classes take no visible share from the others.
PROBABILITY_FLOOR = 1e-12
FLAT = 1e-9  # nats per unit of 1/T: with less slope than this there is nothing left to gain
NEWTON_STEP = 1e-4  # of log T; Newton squares its error, so what is left after such a step is 1e-8
BRACKET = 1e-8  # of log T
MAX_STEPS = 100
BLOCK_VALUES = 1 << 16  # probabilities worked on at once, so that they stay in the cache
SAMPLE_STRIDE = 8  # every eighth row finds the neighbourhood, all rows the place
SAMPLE_ROWS = 500  # the least that such a sample must have


def fit_temperature(proba: np.ndarray, labels: np.ndarray) -> float:
    """The T in [0.05, 20] that minimises the log loss of softmax(log p / T).

    `proba`: (N, C), exact 0 and 1 allowed (floored at 1e-12). `labels`: (N,), all known. The loss
    is convex in 1/T, so a Newton step kept inside a shrinking bracket finds the one minimum.
    Returns 1 where the loss is flat there (less than 1e-9 nats per unit of 1/T). Raises ValueError
    on a shape mismatch or NaN.
    """
    check_labelled(labels, proba)
    logits = _shifted_logits(proba)
    true_logits = logits[np.arange(len(labels)), labels]
    beta = 1.0
    if len(labels) >= SAMPLE_STRIDE * SAMPLE_ROWS:
        beta = _minimum(logits[::SAMPLE_STRIDE], float(true_logits[::SAMPLE_STRIDE].mean()), beta)
    beta = _minimum(logits, float(true_logits.mean()), beta)
    return float(np.clip(1.0 / beta, MIN_TEMPERATURE, MAX_TEMPERATURE))


def apply_temperature(proba: np.ndarray, temperature: float) -> NDArray[np.float64]:
    """softmax(log p / T) of `proba` (N, C), as (N, C) float64. T = 1 returns the same
    probabilities renormalised, its exact zeros kept. Raises ValueError unless 0 < T < inf."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"expected a temperature above 0, got {temperature}")
    if temperature == 1.0:
        tempered = proba.astype(np.float64)
    else:
        tempered = _shifted_logits(proba)
        tempered /= temperature
        np.exp(tempered, out=tempered)
    tempered /= tempered.sum(axis=1, keepdims=True)
    return tempered


def _minimum(logits: np.ndarray, target: float, beta: float) -> float:
    """The beta = 1/T within the bounds at which the expected logit equals `target`, the mean logit
    of the true class; searched from `beta` on."""
    low, high = 1.0 / MAX_TEMPERATURE, 1.0 / MIN_TEMPERATURE
    untried = {low, high}
    for _ in range(MAX_STEPS):
        mean, variance = _moments(logits, beta)
        slope = mean - target
        if abs(slope) <= FLAT:
            return beta
        low, high = (beta, high) if slope < 0 else (low, beta)
        if math.log(high / low) <= BRACKET:
            return beta
        newton = beta - slope / variance if variance > 0 else math.copysign(math.inf, -slope)
        if low < newton < high:
            if abs(math.log(newton / beta)) <= NEWTON_STEP:
                return newton
            beta = newton
            continue
        edge = high if slope < 0 else low  # a bound is tried once, before the bracket is halved
        beta = edge if edge in untried else math.sqrt(low * high)
        untried.discard(edge)
    return beta


def _shifted_logits(proba: np.ndarray) -> NDArray[np.float64]:
    """(N, C) float64 log probabilities, the highest of each row at 0."""
    logits = np.maximum(proba, PROBABILITY_FLOOR, dtype=np.float64)
    np.log(logits, out=logits)
    logits -= logits.max(axis=1, keepdims=True)
    return logits


def _moments(logits: np.ndarray, beta: float) -> tuple[float, float]:
    """Mean over rows of the expected logit and of its variance under softmax(beta * logits):
    the log loss's first derivative (but for the true class) and second derivative in beta."""
    mean_sum = variance_sum = 0.0
    for block in _blocks(logits):
        mass = np.exp(block * beta)
        total = mass.sum(axis=1)
        mass *= block
        mean = mass.sum(axis=1) / total
        square = np.einsum("nc,nc->n", mass, block) / total
        mean_sum += float(mean.sum())
        variance_sum += float(np.maximum(square - mean * mean, 0.0).sum())
    return mean_sum / len(logits), variance_sum / len(logits)


def _blocks(logits: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, BLOCK_VALUES // logits.shape[1])
    for start in range(0, len(logits), rows):
        yield logits[start : start + rows]
