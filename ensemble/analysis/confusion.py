"""What is taken for what: the blend's confusion counts, and every model's most confused pairs.

Only pairs that occur are held: at most one a row, whatever C is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.analysis.decisions import Decisions, ModelRows
from ensemble.analysis.inputs import Analysed, Columns

TOP_PAIRS = 20  # of each member; of the blend all


@dataclass(frozen=True, eq=False)
class Pairs:
    """(P,) each: true class, decided class, how many rows, and the mean probability that the
    model gave the decided class on them. By true class, then decided class."""

    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    count: NDArray[np.int64]
    mean_probability: NDArray[np.float64]


def pairs_of(labels: np.ndarray, model: ModelRows, n_classes: int) -> Pairs:
    """The (true, decided) pairs of classes that occur, the right ones too."""
    codes = labels.astype(np.int64) * n_classes + model.decided
    found, pair_of_row, count = np.unique(codes, return_inverse=True, return_counts=True)
    total = np.bincount(pair_of_row, weights=model.confidence, minlength=len(found))
    return Pairs(found // n_classes, found % n_classes, count.astype(np.int64), total / count)


def confusion(given: Analysed, decisions: Decisions) -> Columns:
    """The blend's confusion matrix, cells above zero only, right decisions included."""
    pairs = pairs_of(given.labels, decisions.blend, given.n_classes)
    return {
        "true_class": given.class_names(pairs.true),
        "predicted_class": given.class_names(pairs.predicted),
        "count": pairs.count,
    }


def confused_pairs(given: Analysed, decisions: Decisions) -> Columns:
    """All wrong pairs of the blend and the `TOP_PAIRS` most frequent of each member, most frequent
    first; of equals the one with the larger share of its class, then by model and class order.

    share             of the true class's rows
    mean_probability  that the model gave the wrong class on those rows: near 1 it is sure
    """
    rows = np.bincount(given.labels, minlength=given.n_classes)
    parts, models = [], []
    for number, model in enumerate(decisions.models()):
        pairs = _most_frequent(
            pairs_of(given.labels, model, given.n_classes), rows, TOP_PAIRS if number else None
        )
        parts.append(pairs)
        models.append(np.full(len(pairs.true), number))
    every = _joined(parts)
    share = every.count / rows[every.true]
    model_of = np.concatenate(models)
    order = np.lexsort((every.predicted, every.true, model_of, -share, -every.count))
    names = np.array([model.name for model in decisions.models()], dtype=object)
    return {
        "model": names[model_of[order]],
        "true_class": given.class_names(every.true[order]),
        "predicted_class": given.class_names(every.predicted[order]),
        "count": every.count[order],
        "share": share[order],
        "mean_probability": every.mean_probability[order],
    }


def _most_frequent(pairs: Pairs, rows: np.ndarray, limit: int | None) -> Pairs:
    wrong = np.flatnonzero(pairs.true != pairs.predicted)
    count = pairs.count[wrong]
    # The sort is stable and pairs come by class, so that classes break the last ties.
    order = wrong[np.lexsort((-count / rows[pairs.true[wrong]], -count))][:limit]
    return Pairs(
        pairs.true[order], pairs.predicted[order], pairs.count[order], pairs.mean_probability[order]
    )


def _joined(parts: list[Pairs]) -> Pairs:
    return Pairs(
        np.concatenate([part.true for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.count for part in parts]),
        np.concatenate([part.mean_probability for part in parts]),
    )
