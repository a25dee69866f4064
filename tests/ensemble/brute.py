"""Greedy selection as one would write it down, slow and plain, to compare with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble.metrics import LOG_LOSS, Metric


def mean_losses(
    probs: np.ndarray,
    labels: np.ndarray,
    metric: Metric,
    bag: list[int],
    row_weights: np.ndarray | None = None,
) -> tuple[float, float]:
    """(loss, log loss) of the mean of `bag`, rounded so that equal ones are equal."""
    mean = probs.astype(np.float64)[bag].sum(axis=0) / len(bag)
    loss = metric.loss(metric(labels, mean, row_weights))
    return round(loss, 11), round(LOG_LOSS(labels, mean, row_weights), 11)


def brute_greedy(
    probs: np.ndarray,
    labels: np.ndarray,
    metric: Metric,
    *,
    steps: int,
    start: int = 0,
    row_weights: np.ndarray | None = None,
) -> tuple[list[int], NDArray[np.float64]]:
    """Caruana 2004, ties as documented: the order, and the weights of the best prefix."""
    everybody = range(len(probs))

    def rank(bag: list[int], member: int) -> tuple[float, bool, float, int]:
        loss, log_loss = mean_losses(probs, labels, metric, [*bag, member], row_weights)
        return loss, member not in bag, log_loss, member

    order = sorted(everybody, key=lambda member: rank([], member))[:start]
    while len(order) < steps:
        order.append(min(everybody, key=lambda member: rank(order, member)))
    length = min(
        range(1, steps + 1),
        key=lambda size: mean_losses(probs, labels, metric, order[:size], row_weights),
    )
    return order, np.bincount(order[:length], minlength=len(probs)) / length
