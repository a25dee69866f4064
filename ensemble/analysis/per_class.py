"""How well each model knows each class: recall, precision and F1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.analysis.decisions import Decisions
from ensemble.analysis.inputs import Analysed, Columns


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """(C,) int64 each: rows of the class, rows decided as it, rows of it decided as it."""

    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    correct: NDArray[np.int64]

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,), NaN for a class without rows."""
        return _ratio(self.correct, self.true)

    @property
    def precision(self) -> NDArray[np.float64]:
        """(C,), NaN for a class that is never decided."""
        return _ratio(self.correct, self.predicted)

    @property
    def f1(self) -> NDArray[np.float64]:
        """(C,), the harmonic mean of both; NaN for a class without rows that is never decided."""
        return _ratio(2 * self.correct, self.true + self.predicted)


def class_counts(labels: np.ndarray, decided: np.ndarray, n_classes: int) -> ClassCounts:
    """The counts of `decided` (N,) against `labels` (N,)."""
    right = labels[decided == labels]
    return ClassCounts(
        np.bincount(labels, minlength=n_classes),
        np.bincount(decided, minlength=n_classes),
        np.bincount(right, minlength=n_classes),
    )


def per_class(given: Analysed, decisions: Decisions) -> Columns:
    """One row per model and class, the blend first."""
    models, counts = [], []
    for model in decisions.models():
        models.append(model.name)
        counts.append(class_counts(given.labels, model.decided, given.n_classes))
    return {
        "model": np.repeat(np.array(models, dtype=object), given.n_classes),
        "class": np.tile(np.array(given.classes, dtype=object), len(models)),
        "rows": np.concatenate([of.true for of in counts]),
        "recall": np.concatenate([of.recall for of in counts]),
        "precision": np.concatenate([of.precision for of in counts]),
        "f1": np.concatenate([of.f1 for of in counts]),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> NDArray[np.float64]:
    undefined = np.full(len(whole), np.nan)
    return np.divide(part, whole, out=undefined, where=whole > 0)
