"""What a metric needs of predictions: the probability of the true class and the decision of every
row, and the whole probabilities only where they are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.metrics import Metric, check_labelled, check_row_weights, true_class


@dataclass(frozen=True)
class Outcome:
    """`p_true` (N,) float and `decided` (N,) int of N rows, `n_classes` C, and `proba` (N, C) or
    None: without it, two numbers a row instead of C. `p_true` belongs to the labels that the
    outcome was made with: score it with the same. `decided` is -1 where no decision is known."""

    p_true: NDArray[np.floating]
    decided: NDArray[np.integer]
    n_classes: int
    proba: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        shape = self.p_true.shape
        if len(shape) != 1 or self.decided.shape != shape:
            raise ValueError(
                f"expected probabilities of the true class (rows,) and as many decisions, "
                f"got {shape} and {self.decided.shape}"
            )
        if self.proba is not None and self.proba.shape != (*shape, self.n_classes):
            raise ValueError(
                f"expected probabilities of shape {(*shape, self.n_classes)}, "
                f"got {self.proba.shape}"
            )

    @classmethod
    def of(cls, labels: np.ndarray, proba: np.ndarray, keep_proba: bool) -> Outcome:
        """The outcome of `proba` (N, C) for `labels` (N,), all known; ties are decided for the
        first class. Raises ValueError on a shape mismatch, an unknown label or NaN."""
        check_labelled(labels, proba)
        return cls(
            p_true=true_class(labels, proba),
            decided=proba.argmax(axis=1),
            n_classes=proba.shape[1],
            proba=proba if keep_proba else None,
        )

    def score(
        self, metric: Metric, labels: np.ndarray, row_weights: np.ndarray | None = None
    ) -> float:
        """`metric` for `labels` (N,), from the least that it needs. Raises BlendError where it
        needs decisions or whole probabilities that were not kept, ValueError on labels or row
        weights that do not fit."""
        self.check(labels)
        check_row_weights(row_weights, len(labels))
        if metric.from_true_class is not None:
            return float(metric.from_true_class(self.p_true, row_weights))
        if metric.from_decisions is not None:
            decided = self.decisions(metric)
            return float(metric.from_decisions(labels, decided, self.n_classes, row_weights))
        return float(metric.function(labels, self.whole(metric), row_weights))

    def row_values(self, metric: Metric, labels: np.ndarray) -> NDArray[np.float64] | None:
        """(N,): the values of which `metric` is the weighted mean; None where it is not a mean.
        Errors as in `score`."""
        self.check(labels)
        if metric.true_class_values is not None:
            return metric.true_class_values(self.p_true)
        if metric.decision_values is not None:
            return metric.decision_values(labels, self.decisions(metric))
        if metric.row_values is not None:
            return metric.row_values(labels, self.whole(metric))
        return None

    def take(self, rows: np.ndarray | slice) -> Outcome:
        """Only those rows: indices, a mask or a slice."""
        proba = None if self.proba is None else self.proba[rows]
        return Outcome(self.p_true[rows], self.decided[rows], self.n_classes, proba)

    def decisions(self, metric: Metric) -> NDArray[np.integer]:
        """The decisions (N,) that `metric` needs. Raises BlendError where one is not known."""
        unknown = np.flatnonzero((self.decided < 0) | (self.decided >= self.n_classes))
        if len(unknown):
            row = int(unknown[0])
            raise BlendError(
                f"{metric.name} needs a decision from 0 to {self.n_classes - 1} for every row, "
                f"and this outcome has {self.decided[row]} in row {row}: make it from whole "
                f"probabilities"
            )
        return self.decided

    def whole(self, metric: Metric) -> NDArray[np.floating]:
        """The probabilities (N, C) that `metric` needs. Raises BlendError where not kept."""
        if self.proba is None:
            raise BlendError(
                f"{metric.name} needs whole probabilities, and this outcome kept only the true "
                f"class and the decision of each row: make it with keep_proba=True"
            )
        return self.proba

    def check(self, labels: np.ndarray) -> None:
        """Raise ValueError unless `labels` are a known class for each of the rows, and no
        probability is NaN."""
        if labels.shape != self.p_true.shape or not len(labels):
            raise ValueError(
                f"expected a label for each of {len(self.p_true)} rows (at least one), "
                f"got labels of shape {labels.shape}"
            )
        wrong = int(np.count_nonzero((labels < 0) | (labels >= self.n_classes)))
        if wrong:
            raise ValueError(
                f"expected a known label from 0 to {self.n_classes - 1} in every row, "
                f"got {wrong} of {len(labels)} rows without: leave those rows out"
            )
        if np.isnan(self.p_true).any():
            row = int(np.argmax(np.isnan(self.p_true)))
            raise ValueError(f"expected probabilities, got NaN in row {row}")
