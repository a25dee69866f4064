"""A metric is a value: its name, direction, bounds and function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

# Log loss counts no probability as less than this, so that one wrong certainty costs 16.1 and not
# infinity. One float32 step below 1 is 6e-8: smaller values are rounding, not opinion.
LOG_LOSS_FLOOR = 1e-7


@dataclass(frozen=True)
class Metric:
    """`function(labels (N,), proba (N, C))` gives a float within `bounds`.

    Two shorter ways to the same value, where the metric has them: `from_true_class(p_true (N,))`
    needs only each row's probability of its true class, `from_decisions(labels (N,), decided
    (N,), C)` only the predicted classes.
    """

    name: str
    higher_is_better: bool
    bounds: tuple[float, float]
    function: Callable[[np.ndarray, np.ndarray], float]
    from_true_class: Callable[[np.ndarray], float] | None = None
    from_decisions: Callable[[np.ndarray, np.ndarray, int], float] | None = None

    def __call__(self, labels: np.ndarray, proba: np.ndarray) -> float:
        """The metric of `proba` (N, C) for `labels` (N,), all known. Raises ValueError on a shape
        mismatch, an unknown label or NaN."""
        check_labelled(labels, proba)
        return float(self.function(labels, proba))

    def loss(self, value: float) -> float:
        """The value with the sign that makes smaller better."""
        return -value if self.higher_is_better else value

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is strictly better than `b`; NaN never is."""
        return self.loss(a) < self.loss(b)


def check_labelled(labels: np.ndarray, proba: np.ndarray) -> None:
    """Raise ValueError unless `labels` (N,) are class indices of `proba` (N, C) without NaN."""
    if proba.ndim != 2 or labels.shape != proba.shape[:1] or not proba.size:
        raise ValueError(
            f"expected labels (rows,) and probabilities (rows, classes) of at least one row, "
            f"got {labels.shape} and {proba.shape}"
        )
    wrong = int(np.count_nonzero((labels < 0) | (labels >= proba.shape[1])))
    if wrong:
        raise ValueError(
            f"expected a known label from 0 to {proba.shape[1] - 1} in every row, "
            f"got {wrong} of {len(labels)} rows without: leave those rows out"
        )
    if math.isnan(proba.min()):
        raise ValueError(f"expected probabilities, got NaN in row {_first_nan(proba)}")


def _first_nan(proba: np.ndarray) -> int:
    return int(np.argwhere(np.isnan(proba))[0][0])


def true_class(labels: np.ndarray, proba: np.ndarray) -> NDArray[np.float64]:
    """(N,) float64: each row's probability of its true class."""
    return proba[np.arange(len(labels)), labels].astype(np.float64)


def row_log_loss(p_true: np.ndarray) -> NDArray[np.float64]:
    """(N,) float64, in nats: -log of the probability of the true class, floored at 1e-7."""
    return -np.log(np.maximum(p_true.astype(np.float64, copy=False), LOG_LOSS_FLOOR))


def confusion_f1(true: np.ndarray, predicted: np.ndarray, correct: np.ndarray) -> float:
    """Macro-F1 from (C,) counts of true, predicted and correctly predicted rows of each class.
    Classes that are neither present nor predicted do not count, as in scikit-learn."""
    present = (true + predicted) > 0
    return float(np.mean(2.0 * correct[present] / (true + predicted)[present]))


def _log_loss_of_true_class(p_true: np.ndarray) -> float:
    return float(np.mean(row_log_loss(p_true)))


def _log_loss(labels: np.ndarray, proba: np.ndarray) -> float:
    return _log_loss_of_true_class(true_class(labels, proba))


def _accuracy_of_decisions(labels: np.ndarray, decided: np.ndarray, n_classes: int) -> float:
    return float(np.mean(decided == labels))


def _accuracy(labels: np.ndarray, proba: np.ndarray) -> float:
    return _accuracy_of_decisions(labels, proba.argmax(axis=1), proba.shape[1])


def _macro_f1_of_decisions(labels: np.ndarray, decided: np.ndarray, n_classes: int) -> float:
    return confusion_f1(
        np.bincount(labels, minlength=n_classes),
        np.bincount(decided, minlength=n_classes),
        np.bincount(labels[decided == labels], minlength=n_classes),
    )


def _macro_f1(labels: np.ndarray, proba: np.ndarray) -> float:
    return _macro_f1_of_decisions(labels, proba.argmax(axis=1), proba.shape[1])


LOG_LOSS = Metric(
    "log_loss",
    higher_is_better=False,
    bounds=(0.0, -math.log(LOG_LOSS_FLOOR)),
    function=_log_loss,
    from_true_class=_log_loss_of_true_class,
)
ACCURACY = Metric(
    "accuracy",
    higher_is_better=True,
    bounds=(0.0, 1.0),
    function=_accuracy,
    from_decisions=_accuracy_of_decisions,
)
MACRO_F1 = Metric(
    "macro_f1",
    higher_is_better=True,
    bounds=(0.0, 1.0),
    function=_macro_f1,
    from_decisions=_macro_f1_of_decisions,
)
METRICS: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for metric in (LOG_LOSS, ACCURACY, MACRO_F1)}
)


def get_metric(name: str) -> Metric:
    """The metric of that name. Raises ValueError with the nearest name."""
    if name in METRICS:
        return METRICS[name]
    nearest = get_close_matches(name, METRICS, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise ValueError(f"unknown metric {name!r}, expected one of {', '.join(METRICS)}{hint}")
