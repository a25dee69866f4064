"""Percentile bootstrap intervals of a metric (Efron and Tibshirani 1993, chapter 13), by row or
by whole group, of one set of predictions or of two on the same resamples.

A resample is a count for every unit (row or group), so a metric that is a sum over rows, or a
function of such sums, is recomputed without touching the probabilities again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.metrics import (
    ACCURACY,
    LOG_LOSS,
    MACRO_F1,
    Metric,
    check_labelled,
    confusion_f1,
    row_log_loss,
    true_class,
)

Statistic = Callable[[NDArray[np.float64]], float]  # (units,) counts -> the metric


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the metric's own units."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """`a` minus `b` in the metric's own units, with its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    labels: np.ndarray,
    proba: np.ndarray,
    metric: Metric,
    *,
    resamples: int,
    confidence: float,
    seed: int,
    groups: np.ndarray | None = None,
) -> Interval:
    """Percentile interval of `metric` for `proba` (N, C) and `labels` (N,).

    `groups`: (N,), rows of equal value are drawn together; None and NaN are rows of their own.
    The same seed gives the same resamples. Raises ValueError on a shape mismatch, NaN, fewer than
    one resample or a confidence outside (0, 1).
    """
    values = resampled_metric(
        labels, [proba], metric, resamples=resamples, seed=seed, groups=groups
    )
    return percentile_interval(values[0], confidence)


def paired_difference(
    labels: np.ndarray,
    proba_a: np.ndarray,
    proba_b: np.ndarray,
    metric: Metric,
    *,
    resamples: int,
    confidence: float,
    seed: int,
    groups: np.ndarray | None = None,
) -> Difference:
    """The metric of `proba_a` minus that of `proba_b`, both on the same resamples: much narrower
    than the two intervals suggest. Arguments and errors as in `bootstrap_interval`."""
    values = resampled_metric(
        labels, [proba_a, proba_b], metric, resamples=resamples, seed=seed, groups=groups
    )
    interval = percentile_interval(values[0] - values[1], confidence)
    value = metric(labels, proba_a) - metric(labels, proba_b)
    return Difference(value, interval.low, interval.high)


def resampled_metric(
    labels: np.ndarray,
    probas: Sequence[np.ndarray],
    metric: Metric,
    *,
    resamples: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> NDArray[np.float64]:
    """(len(probas), resamples) float64: the metric of each of `probas` on each resample."""
    if resamples < 1:
        raise ValueError(f"expected at least one resample, got {resamples}")
    for proba in probas:
        check_labelled(labels, proba)
    unit_of, n_units = _units(labels, groups)
    statistics = [_statistic(labels, proba, metric, unit_of, n_units) for proba in probas]
    values = np.empty((len(statistics), resamples))
    for column, counts in enumerate(_resamples(n_units, resamples, seed)):
        values[:, column] = [statistic(counts) for statistic in statistics]
    return values


def percentile_interval(values: np.ndarray, confidence: float) -> Interval:
    """The central `confidence` of the resampled `values`."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    low, high = np.quantile(values, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return Interval(float(low), float(high))


def _resamples(n_units: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = generator.integers(n_units, size=n_units)
        yield np.bincount(drawn, minlength=n_units).astype(np.float64)


def _units(labels: np.ndarray, groups: np.ndarray | None) -> tuple[NDArray[np.intp], int]:
    """The unit (N,) of every row, and how many units there are."""
    n_rows = len(labels)
    if groups is None:
        return np.arange(n_rows), n_rows
    if groups.shape != (n_rows,):
        raise ValueError(f"expected groups of shape ({n_rows},), got {groups.shape}")
    names: dict[object, int] = {}
    units = np.empty(n_rows, dtype=np.intp)
    for row, group in enumerate(groups.tolist()):
        alone = group is None or group != group
        units[row] = names.setdefault(("row", row) if alone else ("group", group), len(names))
    return units, len(names)


def _statistic(
    labels: np.ndarray, proba: np.ndarray, metric: Metric, unit_of: np.ndarray, n_units: int
) -> Statistic:
    if metric is LOG_LOSS:
        return _mean_statistic(row_log_loss(true_class(labels, proba)), unit_of, n_units)
    if metric is ACCURACY:
        correct = (proba.argmax(axis=1) == labels).astype(np.float64)
        return _mean_statistic(correct, unit_of, n_units)
    if metric is MACRO_F1:
        return _macro_f1_statistic(labels, proba, unit_of)
    return _any_statistic(labels, proba, metric, unit_of)


def _mean_statistic(values: np.ndarray, unit_of: np.ndarray, n_units: int) -> Statistic:
    sums = np.bincount(unit_of, weights=values, minlength=n_units)
    sizes = np.bincount(unit_of, minlength=n_units).astype(np.float64)
    return lambda counts: float((counts @ sums) / (counts @ sizes))


def _macro_f1_statistic(labels: np.ndarray, proba: np.ndarray, unit_of: np.ndarray) -> Statistic:
    n_classes = proba.shape[1]
    decided = proba.argmax(axis=1)
    hits = decided == labels
    hit_labels, hit_units = labels[hits], unit_of[hits]

    def statistic(counts: np.ndarray) -> float:
        weights = counts[unit_of]
        return confusion_f1(
            np.bincount(labels, weights=weights, minlength=n_classes),
            np.bincount(decided, weights=weights, minlength=n_classes),
            np.bincount(hit_labels, weights=counts[hit_units], minlength=n_classes),
        )

    return statistic


def _any_statistic(
    labels: np.ndarray, proba: np.ndarray, metric: Metric, unit_of: np.ndarray
) -> Statistic:
    def statistic(counts: np.ndarray) -> float:
        rows = np.repeat(np.arange(len(labels)), counts[unit_of].astype(np.intp))
        return metric(labels[rows], proba[rows])

    return statistic
