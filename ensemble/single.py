"""The best single member, as weights: what every blend has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble.average import check_members, true_class_matrix
from ensemble.metric_functions import log_loss_of_true_class
from ensemble.metrics import Metric, check_row_weights


def best_single(
    source: np.ndarray,
    labels: np.ndarray,
    metric: Metric,
    *,
    row_weights: np.ndarray | None = None,
) -> NDArray[np.float64]:
    """Weight 1 for the member that is best alone: (M,) float64.

    `source`: probabilities (M, N, C), or only those of the true class (M, N) where `metric` needs
    no more. `labels`: (N,). `row_weights`: (N,), None for all 1. Ties go to the lower log loss,
    then to the lower index. Raises ValueError on a shape mismatch, NaN or impossible row weights.
    """
    if source.ndim == 2:
        values = _values_of_true_class(source, labels, metric, row_weights)
        p_true = source
    else:
        check_members(source, labels)
        values = [metric(labels, proba, row_weights) for proba in source]
        p_true = true_class_matrix(source, labels)
    losses = [
        (metric.loss(value), log_loss_of_true_class(row, row_weights))
        for value, row in zip(values, p_true, strict=True)
    ]
    weights = np.zeros(len(source))
    weights[min(range(len(source)), key=losses.__getitem__)] = 1.0
    return weights


def _values_of_true_class(
    p_true: np.ndarray, labels: np.ndarray, metric: Metric, row_weights: np.ndarray | None
) -> list[float]:
    if metric.from_true_class is None:
        raise ValueError(
            f"expected probabilities (members, samples, classes), as {metric.name} needs more "
            f"than the true class's, got {p_true.shape}"
        )
    if not p_true.size or labels.shape != p_true.shape[1:]:
        raise ValueError(
            f"expected true-class probabilities (members, samples) and as many labels, "
            f"got {p_true.shape} and {labels.shape}"
        )
    check_row_weights(row_weights, len(labels))
    for member, row in enumerate(p_true):
        if np.isnan(row.min()):
            raise ValueError(f"member {member}: expected probabilities, got NaN")
    return [float(metric.from_true_class(row, row_weights)) for row in p_true]
