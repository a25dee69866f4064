"""The best single member, as weights: what every blend has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble.average import check_members, true_class_matrix
from ensemble.kernels import readable, readable_probabilities
from ensemble.kernels_log_loss import log_losses, weighted_log_losses
from ensemble.metrics import LOG_LOSS, LOG_LOSS_FLOOR, Metric, check_row_weights


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
        losses = _losses_of_true_class(source, labels, metric, row_weights)
        p_true = source
    else:
        check_members(source, labels)
        losses = np.array([metric.loss(metric(labels, proba, row_weights)) for proba in source])
        p_true = true_class_matrix(source, labels)
    tied = np.flatnonzero(losses == losses.min())
    if len(tied) > 1 and metric != LOG_LOSS:
        tied = tied[np.argsort(_log_losses(p_true, tied, row_weights), kind="stable")]
    weights = np.zeros(len(source))
    weights[tied[0]] = 1.0
    return weights


def _losses_of_true_class(
    p_true: np.ndarray, labels: np.ndarray, metric: Metric, row_weights: np.ndarray | None
) -> NDArray[np.float64]:
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
    if metric == LOG_LOSS:
        return _log_losses(p_true, np.arange(len(p_true)), row_weights)
    values = (float(metric.from_true_class(row, row_weights)) for row in p_true)
    return np.array([metric.loss(value) for value in values])


def _log_losses(
    p_true: np.ndarray, members: NDArray[np.intp], row_weights: np.ndarray | None
) -> NDArray[np.float64]:
    """Compiled: a thousand members times 100,000 rows are a tenth of a second and not ten."""
    nobody = np.zeros(p_true.shape[1])
    source = readable_probabilities(p_true)
    chosen = readable(members.astype(np.int64))
    if row_weights is None:
        return np.asarray(log_losses(source, nobody, 1, chosen, LOG_LOSS_FLOOR))
    given = np.asarray(row_weights, dtype=np.float64)
    return np.asarray(weighted_log_losses(source, nobody, 1, chosen, LOG_LOSS_FLOOR, given))
