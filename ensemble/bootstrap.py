"""Percentile bootstrap intervals of a metric (Efron and Tibshirani 1993, chapter 13), by row or
by whole group, of one set of predictions or of two on the same resamples.

A resample is a count for every unit (row or group), and a row's weight in it is that count times
its row weight. So a metric that is a mean over rows is two sums over units, and a metric of
decisions is computed from the total weight of every (label, decision) pair that occurs: neither
touches the probabilities again, and neither builds a C x C table.

Predictions are an `Outcome` or an array (N, C), from which one is made. The same seed gives the
same resamples, whatever the metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.metrics import FromDecisions, Metric, check_row_weights
from ensemble.outcome import Outcome

Statistic = Callable[[NDArray[np.float64]], float]  # (units,) counts -> the metric


class UndefinedError(BlendError):
    """A metric that has no value on some resample; whoever asked knows what to do without."""

    def __init__(self, metric: str, instead: str = "choose a metric that is") -> None:
        super().__init__(f"{metric}: not defined on every resample of the rows; {instead}")
        self.metric = metric


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
    outcome: Outcome | np.ndarray,
    metric: Metric,
    *,
    resamples: int,
    confidence: float,
    seed: int,
    groups: np.ndarray | None = None,
    row_weights: np.ndarray | None = None,
) -> Interval:
    """Percentile interval of `metric` for the predictions of N rows and their `labels` (N,).

    `groups`: (N,), rows of equal value are drawn together; None and NaN are rows of their own.
    `row_weights`: (N,) non-negative; a row of weight 0 is not drawn. Raises ValueError on a shape
    mismatch, NaN, fewer than one resample or a confidence outside (0, 1), and BlendError where
    the metric needs probabilities that an `Outcome` did not keep.
    """
    values = resampled_metric(
        labels,
        [outcome],
        metric,
        resamples=resamples,
        seed=seed,
        groups=groups,
        row_weights=row_weights,
    )
    return percentile_interval(values[0], confidence)


def paired_difference(
    labels: np.ndarray,
    a: Outcome | np.ndarray,
    b: Outcome | np.ndarray,
    metric: Metric,
    *,
    resamples: int,
    confidence: float,
    seed: int,
    groups: np.ndarray | None = None,
    row_weights: np.ndarray | None = None,
) -> Difference:
    """The metric of `a` minus that of `b`, both on the same resamples: much narrower than the two
    intervals suggest. Arguments and errors as in `bootstrap_interval`."""
    pair = [_outcome(labels, predictions, metric) for predictions in (a, b)]
    values = resampled_metric(
        labels,
        pair,
        metric,
        resamples=resamples,
        seed=seed,
        groups=groups,
        row_weights=row_weights,
    )
    interval = percentile_interval(values[0] - values[1], confidence)
    of_a, of_b = (outcome.score(metric, labels, row_weights) for outcome in pair)
    return Difference(of_a - of_b, interval.low, interval.high)


def standard_error_of_difference(
    labels: np.ndarray,
    a: Outcome | np.ndarray,
    b: Outcome | np.ndarray,
    metric: Metric,
    *,
    resamples: int,
    seed: int,
    groups: np.ndarray | None = None,
    row_weights: np.ndarray | None = None,
) -> float:
    """The standard error of the metric of `a` minus that of `b` on the same rows.

    Of a metric that is a mean over rows: the standard deviation of the units' differences over the
    square root of their number, without resampling (with groups or row weights, that of the ratio
    of two sums: Cochran 1977, section 6.4). Of any other: that of `resamples`, at least 2, paired
    resamples. One unit has no spread: 0. Arguments and errors as in `bootstrap_interval`.
    """
    if resamples < 2:
        raise ValueError(f"expected at least two resamples, got {resamples}")
    pair = [_outcome(labels, predictions, metric) for predictions in (a, b)]
    sample = _sample(labels, pair, groups, row_weights)
    of_a, of_b = (outcome.row_values(metric, sample.labels) for outcome in sample.outcomes)
    if of_a is not None and of_b is not None:
        return _standard_error_of_mean(of_a - of_b, sample)
    values = _resampled(sample, metric, resamples, seed)
    return float(np.std(values[0] - values[1], ddof=1))


def resampled_metric(
    labels: np.ndarray,
    outcomes: Sequence[Outcome | np.ndarray],
    metric: Metric,
    *,
    resamples: int,
    seed: int,
    groups: np.ndarray | None = None,
    row_weights: np.ndarray | None = None,
) -> NDArray[np.float64]:
    """(len(outcomes), resamples) float64: the metric of each of `outcomes` on each resample.
    Arguments and errors as in `bootstrap_interval`."""
    if resamples < 1:
        raise ValueError(f"expected at least one resample, got {resamples}")
    made = [_outcome(labels, predictions, metric) for predictions in outcomes]
    return _resampled(_sample(labels, made, groups, row_weights), metric, resamples, seed)


def resample_counts(
    labels: np.ndarray, groups: np.ndarray | None, resamples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """(N,) float64 for each resample: how often every row is drawn, by whole group where there are
    `groups`. The same resamples as those of the intervals. Raises ValueError on a shape mismatch.
    """
    _check_groups(labels, groups)
    unit_of, n_units = _units(len(labels), groups)
    for counts in _resamples(n_units, resamples, seed):
        yield counts if unit_of is None else counts[unit_of]


def percentile_interval(values: np.ndarray, confidence: float) -> Interval:
    """The central `confidence` of the resampled `values`."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    low, high = np.quantile(values, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class _Sample:
    """The rows that can be drawn, and the unit that each is drawn with."""

    labels: NDArray[np.integer]
    outcomes: Sequence[Outcome]
    row_weights: NDArray[np.float64] | None
    unit_of: NDArray[np.intp] | None  # None: every row is a unit
    n_units: int

    def of_rows(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows,): every row's weight in the resample of those counts (units,)."""
        drawn = counts if self.unit_of is None else counts[self.unit_of]
        return drawn if self.row_weights is None else drawn * self.row_weights

    def unit_sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(units,): the weighted sums of `values` (rows,)."""
        if self.row_weights is not None:
            values = values * self.row_weights
        if self.unit_of is None:
            return values
        sums = np.bincount(self.unit_of, weights=values, minlength=self.n_units)
        return sums.astype(np.float64, copy=False)

    def unit_weights(self) -> NDArray[np.float64]:
        """(units,): the total row weight of every unit."""
        return self.unit_sums(np.ones(len(self.labels)))


def _sample(
    labels: np.ndarray,
    outcomes: Sequence[Outcome],
    groups: np.ndarray | None,
    row_weights: np.ndarray | None,
) -> _Sample:
    """Check that everything fits, and leave out the rows of weight 0: drawing them would give
    resamples of less than the sample, and some of nothing."""
    for outcome in outcomes:
        outcome.check(labels)
    check_row_weights(row_weights, len(labels))
    _check_groups(labels, groups)
    if row_weights is not None and not row_weights.all():
        rows = np.flatnonzero(row_weights)
        labels, row_weights = labels[rows], row_weights[rows]
        outcomes = [outcome.take(rows) for outcome in outcomes]
        groups = None if groups is None else groups[rows]
    unit_of, n_units = _units(len(labels), groups)
    weights = None if row_weights is None else row_weights.astype(np.float64)
    return _Sample(labels, outcomes, weights, unit_of, n_units)


def _check_groups(labels: np.ndarray, groups: np.ndarray | None) -> None:
    if groups is not None and groups.shape != labels.shape:
        raise ValueError(f"expected groups of shape {labels.shape}, got {groups.shape}")


def _units(n_rows: int, groups: np.ndarray | None) -> tuple[NDArray[np.intp] | None, int]:
    """The unit (N,) of every row, None where each is its own, and how many units there are."""
    if groups is None:
        return None, n_rows
    names: dict[object, int] = {}
    units = np.empty(n_rows, dtype=np.intp)
    for row, group in enumerate(groups.tolist()):
        alone = group is None or group != group
        units[row] = names.setdefault(("row", row) if alone else ("group", group), len(names))
    return units, len(names)


def _outcome(labels: np.ndarray, predictions: Outcome | np.ndarray, metric: Metric) -> Outcome:
    if isinstance(predictions, Outcome):
        return predictions
    return Outcome.of(labels, predictions, keep_proba=metric.needs == "probabilities")


def _standard_error_of_mean(values: NDArray[np.float64], sample: _Sample) -> float:
    """Of the weighted mean of `values` (rows,), drawn by unit."""
    if sample.n_units < 2:
        return 0.0
    sums, weights = sample.unit_sums(values), sample.unit_weights()
    residuals = (sums - sums.sum() / weights.sum() * weights) / weights.mean()
    # The residuals sum to zero, so that their standard deviation needs no mean.
    return float(math.sqrt(residuals @ residuals / (sample.n_units - 1) / sample.n_units))


def _resampled(sample: _Sample, metric: Metric, resamples: int, seed: int) -> NDArray[np.float64]:
    statistics = [_statistic(sample, outcome, metric) for outcome in sample.outcomes]
    values = np.empty((len(statistics), resamples))
    for column, counts in enumerate(_resamples(sample.n_units, resamples, seed)):
        values[:, column] = [
            _resampled_value(statistic, counts, metric) for statistic in statistics
        ]
    return values


def _resampled_value(statistic: Statistic, counts: NDArray[np.float64], metric: Metric) -> float:
    try:
        return statistic(counts)
    except BlendError as error:  # scikit-learn refuses: a resample may lack a class
        raise UndefinedError(metric.name) from error


def _resamples(n_units: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = generator.integers(n_units, size=n_units)
        yield np.bincount(drawn, minlength=n_units).astype(np.float64)


def _statistic(sample: _Sample, outcome: Outcome, metric: Metric) -> Statistic:
    """The quickest way to the metric of a resample."""
    values = outcome.row_values(metric, sample.labels)
    if values is not None:
        return _mean_statistic(sample, values)
    if metric.from_true_class is not None:
        of_true_class, p_true = metric.from_true_class, outcome.p_true
        return lambda counts: of_true_class(p_true, sample.of_rows(counts))
    if metric.from_decisions is not None:
        return _decision_statistic(sample, outcome, metric, metric.from_decisions)
    proba = outcome.whole(metric)
    return lambda counts: metric.function(sample.labels, proba, sample.of_rows(counts))


def _mean_statistic(sample: _Sample, values: NDArray[np.float64]) -> Statistic:
    sums, weights = sample.unit_sums(values), sample.unit_weights()
    return lambda counts: float((counts @ sums) / (counts @ weights))


def _decision_statistic(
    sample: _Sample, outcome: Outcome, metric: Metric, of_decisions: FromDecisions
) -> Statistic:
    """Rows of one label and one decision are alike to the metric: their weights are added, so
    that it sees each (label, decision) pair that occurs once, at most N of the C x C."""
    codes = sample.labels.astype(np.int64) * outcome.n_classes + outcome.decisions(metric)
    pairs, pair_of = np.unique(codes, return_inverse=True)
    labels, decided = np.divmod(pairs, outcome.n_classes)

    def statistic(counts: NDArray[np.float64]) -> float:
        weights = np.bincount(pair_of, weights=sample.of_rows(counts), minlength=len(pairs))
        return of_decisions(labels, decided, outcome.n_classes, weights)

    return statistic
