"""Any scikit-learn scorer as a metric of stored predictions. N rows, C classes.

A scorer asks a fitted classifier for its decisions or probabilities. It gets a stand-in that gives
back the stored ones, with `classes_` 0 to C - 1, so that everything else (averaging, what counts
as positive, `sample_weight`) is scikit-learn's own and stays so. Importing scikit-learn takes more
than a second: `ensemble.metrics` imports this file only when such a metric is asked for.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer, get_scorer_names

from ensemble.errors import BlendError

_INF = math.inf
# Of a name or of its beginning, the longest first; what is not listed is unbounded.
_BOUNDS: dict[str, tuple[float, float]] = {
    "matthews_corrcoef": (-1.0, 1.0),
    "adjusted_rand_score": (-0.5, 1.0),
    "adjusted_mutual_info_score": (-_INF, 1.0),
    "mutual_info_score": (0.0, _INF),
    "positive_likelihood_ratio": (0.0, _INF),
    "explained_variance": (-_INF, 1.0),
    "r2": (-_INF, 1.0),
    "d2_": (-_INF, 1.0),
    "neg_": (-_INF, 0.0),
    "accuracy": (0.0, 1.0),
    "average_precision": (0.0, 1.0),
    "balanced_accuracy": (0.0, 1.0),
    "top_k_accuracy": (0.0, 1.0),
    "f1": (0.0, 1.0),
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "jaccard": (0.0, 1.0),
    "roc_auc": (0.0, 1.0),
    "rand_score": (0.0, 1.0),
    "completeness_score": (0.0, 1.0),
    "homogeneity_score": (0.0, 1.0),
    "v_measure_score": (0.0, 1.0),
    "fowlkes_mallows_score": (0.0, 1.0),
    "normalized_mutual_info_score": (0.0, 1.0),
}


@dataclass(frozen=True)
class DecisionScorer:
    """A scorer that asks for decisions only: `(labels (N,), decided (N,), C, row_weights)`.
    Raises ValueError where scikit-learn refuses or the value is not finite."""

    name: str

    def __call__(
        self,
        labels: np.ndarray,
        decided: np.ndarray,
        n_classes: int,
        row_weights: np.ndarray | None = None,
        /,
    ) -> float:
        if row_weights is not None and not row_weights.all():
            rows = np.flatnonzero(row_weights)
            labels, decided, row_weights = labels[rows], decided[rows], row_weights[rows]
        return _finite(self.name, n_classes, _Decided(decided, n_classes), labels, row_weights)


@dataclass(frozen=True)
class ProbabilityScorer:
    """A scorer that asks for probabilities: `(labels (N,), proba (N, C), row_weights)`.
    Raises ValueError where scikit-learn refuses or the value is not finite.

    Many of these refuse labels that lack a class. Where the value is the same whatever stands in
    for that class (log loss, Brier), a row of weight 0 does; where it is not, the error stays.
    """

    name: str

    def __call__(
        self, labels: np.ndarray, proba: np.ndarray, row_weights: np.ndarray | None = None, /
    ) -> float:
        if row_weights is not None and not row_weights.all():
            rows = np.flatnonzero(row_weights)
            labels, proba, row_weights = labels[rows], proba[rows], row_weights[rows]
        n_classes = proba.shape[1]
        try:
            return _finite(self.name, n_classes, _Probable(proba), labels, row_weights)
        except ValueError:
            missing = np.flatnonzero(np.bincount(labels, minlength=n_classes) == 0)
            if not len(missing):
                raise
            value = self._with_all_classes(labels, proba, row_weights, missing)
            if value is None:
                raise
            return value

    def _with_all_classes(
        self,
        labels: np.ndarray,
        proba: np.ndarray,
        row_weights: np.ndarray | None,
        missing: np.ndarray,
    ) -> float | None:
        """The score with a row of weight 0 for each missing class; None where that has no
        definite value."""
        weights = np.ones(len(labels)) if row_weights is None else row_weights
        uniform = np.full((len(missing), proba.shape[1]), 1.0 / proba.shape[1], proba.dtype)
        stand_in = _Probable(np.concatenate([proba, uniform]))
        try:
            with warnings.catch_warnings():
                # scikit-learn's way of saying that it made a value up.
                warnings.simplefilter("error", UserWarning)
                value = get_scorer(self.name)(
                    stand_in,
                    _no_features(len(stand_in.proba)),
                    np.concatenate([labels, missing]),
                    sample_weight=np.concatenate([weights, np.zeros(len(missing))]),
                )
        except (TypeError, ValueError, UserWarning):
            return None
        return float(value) if math.isfinite(value) else None


def scorer_of(name: str) -> DecisionScorer | ProbabilityScorer:
    """The scorer of that name (`sklearn.metrics.get_scorer_names()`), by what it asks of a
    classifier. Raises ValueError with the nearest name."""
    names = get_scorer_names()
    if name not in names:
        nearest = get_close_matches(name, names, n=1)
        hint = f"did you mean sklearn:{nearest[0]}?" if nearest else "see get_scorer_names()"
        raise BlendError(f"unknown metric 'sklearn:{name}', no scikit-learn scorer; {hint}")
    labels = np.array([0, 1, 0, 1])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            get_scorer(name)(_Decided(labels, 2), _no_features(4), labels)
    except AttributeError:  # it asked for predict_proba
        return ProbabilityScorer(name)
    except ValueError:  # it asked for decisions and did not like them, which a user may still mend
        pass
    return DecisionScorer(name)


def scorer_bounds(name: str) -> tuple[float, float]:
    """The least and largest value of that scorer, infinite where it has none or none is known."""
    for start in sorted(_BOUNDS, key=len, reverse=True):
        if name.startswith(start):
            return _BOUNDS[start]
    return (-_INF, _INF)


class _Decided(ClassifierMixin, BaseEstimator):
    """A fitted classifier that decides as it is told."""

    def __init__(self, decided: np.ndarray, n_classes: int) -> None:
        self.decided = decided
        self.n_classes = n_classes
        self.classes_ = np.arange(n_classes)

    def predict(self, X: np.ndarray) -> np.ndarray:  # noqa: N803 (scikit-learn's name)
        return self.decided

    def repeated(self, times: np.ndarray) -> _Decided:
        return _Decided(np.repeat(self.decided, times), self.n_classes)


class _Probable(_Decided):
    """A fitted classifier that predicts the probabilities it is given."""

    def __init__(self, proba: np.ndarray) -> None:
        super().__init__(proba.argmax(axis=1), proba.shape[1])
        self.proba = proba

    def predict_proba(self, X: np.ndarray) -> np.ndarray:  # noqa: N803 (scikit-learn's name)
        return self.proba

    def repeated(self, times: np.ndarray) -> _Probable:
        return _Probable(np.repeat(self.proba, times, axis=0))


def _finite(
    name: str, n_classes: int, model: _Decided, labels: np.ndarray, row_weights: np.ndarray | None
) -> float:
    try:
        with warnings.catch_warnings():
            # A precision of no decisions is 0 and warns: once per step and resample is too often.
            warnings.simplefilter("ignore")
            value = _weighted(name, model, labels, row_weights)
    except (TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        present = len(np.unique(labels))
        if present < n_classes:
            why += f" (the labels have {present} of them; auc, macro_f1 and log_loss allow that)"
        raise BlendError(f"sklearn:{name} cannot score these {n_classes} classes: {why}") from None
    if not math.isfinite(value):
        raise BlendError(
            f"expected a finite sklearn:{name}, got {value} for {len(labels)} rows of "
            f"{len(np.unique(labels))} of {n_classes} classes: choose a metric defined there"
        )
    return value


def _weighted(
    name: str, model: _Decided, labels: np.ndarray, row_weights: np.ndarray | None
) -> float:
    scorer, features = get_scorer(name), _no_features(len(labels))
    if row_weights is None or (row_weights == row_weights[0]).all():
        return float(scorer(model, features, labels))
    try:
        return float(scorer(model, features, labels, sample_weight=row_weights))
    except (TypeError, ValueError) as error:
        if "sample_weight" not in str(error):
            raise
    times = row_weights.astype(np.intp)
    if not (times == row_weights).all():
        raise BlendError("this scorer takes no row weights other than whole numbers")
    return float(scorer(model.repeated(times), _no_features(times.sum()), labels.repeat(times)))


def _no_features(rows: int) -> np.ndarray:
    return np.zeros((rows, 1))
