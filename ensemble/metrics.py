"""A metric is a value: its name, direction, bounds, function, and the least it can be had from."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np

from ensemble.errors import BlendError
from ensemble.metric_functions import (
    LOG_LOSS_FLOOR,
    MeanOfRows,
    OfDecisions,
    TopKHits,
    accuracy_of_decisions,
    accuracy_rows,
    area_under_roc,
    balanced_accuracy_of_decisions,
    brier_rows,
    confusion_f1,
    expected_calibration_error,
    hits,
    log_loss_of_true_class,
    log_loss_rows,
    macro_f1_of_decisions,
    quadratic_kappa_of_decisions,
    row_log_loss,
    true_class,
)

__all__ = [
    "ACCURACY",
    "AUC",
    "BALANCED_ACCURACY",
    "BRIER",
    "ECE",
    "KNOWN_METRICS",
    "LOG_LOSS",
    "LOG_LOSS_FLOOR",
    "MACRO_F1",
    "METRICS",
    "QUADRATIC_KAPPA",
    "Metric",
    "Needs",
    "check_labelled",
    "check_row_weights",
    "confusion_f1",
    "get_metric",
    "row_log_loss",
    "true_class",
]

Needs = Literal["true_class", "decisions", "probabilities"]


class FromProbabilities(Protocol):
    def __call__(
        self, labels: np.ndarray, proba: np.ndarray, row_weights: np.ndarray | None = None, /
    ) -> float: ...


class FromTrueClass(Protocol):
    def __call__(self, p_true: np.ndarray, row_weights: np.ndarray | None = None, /) -> float: ...


class FromDecisions(Protocol):
    def __call__(
        self,
        labels: np.ndarray,
        decided: np.ndarray,
        n_classes: int,
        row_weights: np.ndarray | None = None,
        /,
    ) -> float: ...


@dataclass(frozen=True)
class Metric:
    """`function(labels (N,), proba (N, C), row_weights (N,) or None)` gives a float within
    `bounds`. `row_weights` are non-negative and not all zero; None means all 1, a row of weight 0
    counts as absent.

    Two shorter ways to the same value, where the metric has them: `from_true_class(p_true (N,),
    row_weights)` needs only each row's probability of its true class, `from_decisions(labels (N,),
    decided (N,), C, row_weights)` only the predicted classes. `needs` says which.

    A metric that is the weighted mean of one value per row has `row_values(labels, proba)` (N,),
    and the same from the shorter ways: `true_class_values(p_true)`, `decision_values(labels,
    decided)`. The functions check nothing; calling the metric does.
    """

    name: str
    higher_is_better: bool
    bounds: tuple[float, float]
    function: FromProbabilities
    from_true_class: FromTrueClass | None = None
    from_decisions: FromDecisions | None = None
    row_values: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    true_class_values: Callable[[np.ndarray], np.ndarray] | None = None
    decision_values: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    @property
    def needs(self) -> Needs:
        """The least of predictions that the metric can be computed from."""
        if self.from_true_class is not None:
            return "true_class"
        return "probabilities" if self.from_decisions is None else "decisions"

    @property
    def is_quick(self) -> bool:
        """Whether a resample costs no more than a sum or a small loop of our own: a scorer of
        scikit-learn checks and sorts its decisions anew, milliseconds each time."""
        shorter = (self.from_true_class, self.from_decisions, self.row_values)
        return any(shorter) and not self.name.startswith(_SKLEARN)

    def __call__(
        self, labels: np.ndarray, proba: np.ndarray, row_weights: np.ndarray | None = None
    ) -> float:
        """The metric of `proba` (N, C) for `labels` (N,), all known. Raises ValueError on a shape
        mismatch, an unknown label, NaN, or row weights that are negative or all zero."""
        check_labelled(labels, proba)
        check_row_weights(row_weights, len(labels))
        return float(self.function(labels, proba, row_weights))

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
        row = int(np.argwhere(np.isnan(proba))[0][0])
        raise ValueError(f"expected probabilities, got NaN in row {row}")


def check_row_weights(row_weights: np.ndarray | None, n_rows: int) -> None:
    """Raise ValueError unless None or (n_rows,) finite, non-negative and not all zero."""
    if row_weights is None:
        return
    if row_weights.shape != (n_rows,):
        raise ValueError(f"expected row weights of shape ({n_rows},), got {row_weights.shape}")
    wrong = ~(np.isfinite(row_weights) & (row_weights >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"expected finite row weights of at least 0, got {row_weights[row]} in row {row}"
        )
    if not row_weights.any():
        raise ValueError("expected a row weight above 0 in at least one row, got none")


LOG_LOSS = Metric(
    "log_loss",
    higher_is_better=False,
    bounds=(0.0, -math.log(LOG_LOSS_FLOOR)),
    function=MeanOfRows(log_loss_rows),
    from_true_class=log_loss_of_true_class,
    row_values=log_loss_rows,
    true_class_values=row_log_loss,
)
ACCURACY = Metric(
    "accuracy",
    higher_is_better=True,
    bounds=(0.0, 1.0),
    function=OfDecisions(accuracy_of_decisions),
    from_decisions=accuracy_of_decisions,
    row_values=accuracy_rows,
    decision_values=hits,
)
MACRO_F1 = Metric(
    "macro_f1",
    higher_is_better=True,
    bounds=(0.0, 1.0),
    function=OfDecisions(macro_f1_of_decisions),
    from_decisions=macro_f1_of_decisions,
)
BALANCED_ACCURACY = Metric(
    "balanced_accuracy",
    higher_is_better=True,
    bounds=(0.0, 1.0),
    function=OfDecisions(balanced_accuracy_of_decisions),
    from_decisions=balanced_accuracy_of_decisions,
)
QUADRATIC_KAPPA = Metric(
    "quadratic_kappa",
    higher_is_better=True,
    bounds=(-1.0, 1.0),
    function=OfDecisions(quadratic_kappa_of_decisions),
    from_decisions=quadratic_kappa_of_decisions,
)
AUC = Metric("auc", higher_is_better=True, bounds=(0.0, 1.0), function=area_under_roc)
BRIER = Metric(
    "brier",
    higher_is_better=False,
    bounds=(0.0, 2.0),
    function=MeanOfRows(brier_rows),
    row_values=brier_rows,
)
ECE = Metric("ece", higher_is_better=False, bounds=(0.0, 1.0), function=expected_calibration_error)

# What the training loop tracks every epoch.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for metric in (LOG_LOSS, ACCURACY, MACRO_F1)}
)
_NAMED = {
    **METRICS,
    **{m.name: m for m in (BALANCED_ACCURACY, QUADRATIC_KAPPA, AUC, BRIER, ECE)},
}
_TOP_K = re.compile(r"top_([1-9][0-9]*)_accuracy")
_SKLEARN = "sklearn:"
KNOWN_METRICS: tuple[str, ...] = (*_NAMED, "top_<k>_accuracy", f"{_SKLEARN}<scorer name>")


def get_metric(name: str) -> Metric:
    """The metric of that name: one of `KNOWN_METRICS`, with a number for <k> (top_5_accuracy) and
    the name of a scikit-learn scorer (sklearn:f1_weighted). Raises ValueError with the nearest
    name."""
    if name in _NAMED:
        return _NAMED[name]
    if match := _TOP_K.fullmatch(name):
        return _top_k_accuracy(int(match[1]))
    if name.startswith(_SKLEARN):
        return _scikit_learn(name.removeprefix(_SKLEARN))
    nearest = get_close_matches(name, [*_NAMED, "top_5_accuracy"], n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise BlendError(f"unknown metric {name!r}, expected one of {', '.join(KNOWN_METRICS)}{hint}")


def _top_k_accuracy(k: int) -> Metric:
    return Metric(
        f"top_{k}_accuracy",
        higher_is_better=True,
        bounds=(0.0, 1.0),
        function=MeanOfRows(TopKHits(k)),
        row_values=TopKHits(k),
    )


def _scikit_learn(name: str) -> Metric:
    # Here, not above: it imports scikit-learn, which takes more than a second.
    from ensemble.sklearn_metrics import DecisionScorer, scorer_bounds, scorer_of

    scorer = scorer_of(name)
    decides = scorer if isinstance(scorer, DecisionScorer) else None
    return Metric(
        f"{_SKLEARN}{name}",
        higher_is_better=True,  # every scorer is
        bounds=scorer_bounds(name),
        function=OfDecisions(scorer) if isinstance(scorer, DecisionScorer) else scorer,
        from_decisions=decides,
    )
