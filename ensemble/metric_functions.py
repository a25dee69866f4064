"""The mathematics of the metrics, on arrays. N rows, C classes.

`labels` (N,) and `decided` (N,) are class indices, `proba` is (N, C), `p_true` (N,) each row's
probability of its true class. `row_weights` (N,) are non-negative and not all zero, None means
all 1; every mean divides by their sum, and a row of weight 0 counts as absent. A whole number as
weight means what repeating the row means. Nothing is checked here: `ensemble.metrics` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Log loss counts no probability as less than this, so that one wrong certainty costs 16.1 and not
# infinity. One float32 step below 1 is 6e-8: smaller values are rounding, not opinion.
LOG_LOSS_FLOOR = 1e-7

ECE_BINS = 15  # as in Guo et al. 2017
_BLOCK = 1 << 20  # probabilities looked at in one go, so that temporaries stay in the cache


def weighted_mean(values: np.ndarray, row_weights: np.ndarray | None) -> float:
    """The mean of `values` (N,), summed in float64."""
    if row_weights is None:
        return float(np.mean(values, dtype=np.float64))
    weights = row_weights.astype(np.float64, copy=False)
    # Not a dot product: its other order of summing could take the mean of ones above 1.
    return float((weights * values).sum() / weights.sum())


def true_class(labels: np.ndarray, proba: np.ndarray) -> NDArray[np.float64]:
    """(N,) float64: each row's probability of its true class."""
    return proba[np.arange(len(labels)), labels].astype(np.float64)


def row_log_loss(p_true: np.ndarray) -> NDArray[np.float64]:
    """(N,) float64, in nats: -log of the probability of the true class, floored at 1e-7."""
    return -np.log(np.maximum(p_true.astype(np.float64, copy=False), LOG_LOSS_FLOOR))


def log_loss_rows(labels: np.ndarray, proba: np.ndarray) -> NDArray[np.float64]:
    return row_log_loss(true_class(labels, proba))


def log_loss_of_true_class(p_true: np.ndarray, row_weights: np.ndarray | None = None) -> float:
    return weighted_mean(row_log_loss(p_true), row_weights)


def hits(labels: np.ndarray, decided: np.ndarray) -> NDArray[np.float64]:
    """(N,) float64: 1 where the decision is right."""
    return (decided == labels).astype(np.float64)


def accuracy_rows(labels: np.ndarray, proba: np.ndarray) -> NDArray[np.float64]:
    return hits(labels, proba.argmax(axis=1))


def accuracy_of_decisions(
    labels: np.ndarray, decided: np.ndarray, n_classes: int, row_weights: np.ndarray | None = None
) -> float:
    return weighted_mean(hits(labels, decided), row_weights)


def confusion_f1(true: np.ndarray, predicted: np.ndarray, correct: np.ndarray) -> float:
    """Macro-F1 from (C,) counts of true, predicted and correctly predicted rows of each class.
    Classes that are neither present nor predicted do not count, as in scikit-learn."""
    present = (true + predicted) > 0
    return float(np.mean(2.0 * correct[present] / (true + predicted)[present]))


def macro_f1_of_decisions(
    labels: np.ndarray, decided: np.ndarray, n_classes: int, row_weights: np.ndarray | None = None
) -> float:
    return confusion_f1(
        np.bincount(labels, weights=row_weights, minlength=n_classes),
        np.bincount(decided, weights=row_weights, minlength=n_classes),
        _correct(labels, decided, n_classes, row_weights),
    )


def balanced_accuracy_of_decisions(
    labels: np.ndarray, decided: np.ndarray, n_classes: int, row_weights: np.ndarray | None = None
) -> float:
    """Recall averaged over the classes present in `labels` (scikit-learn's, not adjusted)."""
    true = np.bincount(labels, weights=row_weights, minlength=n_classes)
    present = true > 0
    correct = _correct(labels, decided, n_classes, row_weights)
    return float(np.mean(correct[present] / true[present]))


def _correct(
    labels: np.ndarray, decided: np.ndarray, n_classes: int, row_weights: np.ndarray | None
) -> NDArray[np.float64]:
    right = decided == labels
    weights = None if row_weights is None else row_weights[right]
    return np.bincount(labels[right], weights=weights, minlength=n_classes).astype(np.float64)


def quadratic_kappa_of_decisions(
    labels: np.ndarray, decided: np.ndarray, n_classes: int, row_weights: np.ndarray | None = None
) -> float:
    """Cohen's kappa with squared distances of class indices (Cohen 1968): 1 minus the mean squared
    distance over the one expected if decisions were dealt out at random. 0/0 happens only where
    every row has one class and is decided as it: that is perfect agreement, 1.

    The expected distance is var(labels) + var(decided) + (difference of means) squared, so no
    C x C table is needed.
    """
    true, guess = labels.astype(np.float64), decided.astype(np.float64)
    observed = weighted_mean((true - guess) ** 2, row_weights)
    if observed == 0.0:
        return 1.0
    mean_true, mean_guess = weighted_mean(true, row_weights), weighted_mean(guess, row_weights)
    spread = (true - mean_true) ** 2 + (guess - mean_guess) ** 2
    expected = weighted_mean(spread, row_weights) + (mean_true - mean_guess) ** 2
    return 1.0 - observed / expected


@dataclass(frozen=True)
class OfDecisions:
    """A metric of decisions as one of probabilities: the largest decides, ties go to the first."""

    of_decisions: Callable[..., float]

    def __call__(
        self, labels: np.ndarray, proba: np.ndarray, row_weights: np.ndarray | None = None
    ) -> float:
        return self.of_decisions(labels, proba.argmax(axis=1), proba.shape[1], row_weights)


@dataclass(frozen=True)
class MeanOfRows:
    """The weighted mean of one value per row."""

    row_values: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def __call__(
        self, labels: np.ndarray, proba: np.ndarray, row_weights: np.ndarray | None = None
    ) -> float:
        return weighted_mean(self.row_values(labels, proba), row_weights)


@dataclass(frozen=True)
class TopKHits:
    """(N,) float64: 1 where the true class is among the `k` most probable. Equal probabilities
    rank by class index, the first before the second, so that k = 1 is accuracy (scikit-learn's
    `top_k_accuracy_score` ranks ties the other way round)."""

    k: int

    def __call__(self, labels: np.ndarray, proba: np.ndarray) -> NDArray[np.float64]:
        inside = np.empty(len(labels), dtype=np.float64)
        classes = np.arange(proba.shape[1])
        for rows in _blocks(proba):
            block, true = proba[rows], labels[rows, None]
            p_true = np.take_along_axis(block, true, axis=1)
            before = (block > p_true) | ((block == p_true) & (classes < true))
            inside[rows] = np.count_nonzero(before, axis=1) < self.k
        return inside


def brier_rows(labels: np.ndarray, proba: np.ndarray) -> NDArray[np.float64]:
    """(N,) float64: the sum over classes of (probability - truth) squared, 0 to 2 (Brier 1950)."""
    squares = np.empty(len(labels), dtype=np.float64)
    for rows in _blocks(proba):
        squares[rows] = np.square(proba[rows], dtype=np.float64).sum(axis=1)
    # Rounding alone can take a perfect row below 0.
    return np.maximum(squares - 2.0 * true_class(labels, proba) + 1.0, 0.0)


def expected_calibration_error(
    labels: np.ndarray, proba: np.ndarray, row_weights: np.ndarray | None = None
) -> float:
    """Top-label ECE over 15 bins of equal width, (0, 1/15], … (14/15, 1] (Guo et al. 2017): the
    gap between accuracy and mean confidence in a bin, averaged by the bins' share of rows."""
    decided = proba.argmax(axis=1)
    confidence = true_class(decided, proba)
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.intp) - 1, 0, ECE_BINS - 1)
    weights = np.ones(len(labels)) if row_weights is None else row_weights
    gaps = np.bincount(bins, weights=weights * (hits(labels, decided) - confidence))
    return float(np.abs(gaps).sum() / weights.sum())


def area_under_roc(
    labels: np.ndarray, proba: np.ndarray, row_weights: np.ndarray | None = None
) -> float:
    """One-vs-rest area under the ROC curve, averaged over the classes that some rows have and
    some do not (Hand and Till 2001 call it a macro average); of two classes that of the second,
    as usual. Where every row has one class there is no order to judge: 0.5, what guessing gets."""
    weights = np.ones(len(labels)) if row_weights is None else row_weights
    present = np.flatnonzero(np.bincount(labels, weights=weights, minlength=proba.shape[1]) > 0)
    if len(present) < 2:
        return 0.5
    judged = (1,) if proba.shape[1] == 2 else tuple(present)
    return float(np.mean([_area(labels == label, proba[:, label], weights) for label in judged]))


def _area(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """The weighted share of (positive, negative) pairs in the right order; ties count half."""
    values, value_of = np.unique(scores, return_inverse=True)
    ups = np.bincount(value_of, weights=weights * positive, minlength=len(values))
    downs = np.bincount(value_of, weights=weights * ~positive, minlength=len(values))
    below = np.cumsum(downs) - 0.5 * downs
    return float(ups @ below / (ups.sum() * downs.sum()))


def _blocks(proba: np.ndarray) -> Iterator[slice]:
    step = max(1, _BLOCK // proba.shape[1])
    for start in range(0, len(proba), step):
        yield slice(start, start + step)
