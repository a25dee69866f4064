"""Whether a model that says 90 % is right 9 times in 10: accuracy by confidence.

Source: Guo, Pleiss, Sun, Weinberger 2017, On Calibration of Modern Neural Networks, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.analysis.decisions import Decisions, ModelRows
from ensemble.analysis.inputs import Analysed, Columns

BINS = 15  # of equal width: (0, 1/15], …, (14/15, 1]


@dataclass(frozen=True, eq=False)
class Reliability:
    """(BINS,) each: rows in the bin, their mean confidence and accuracy (NaN without rows)."""

    rows: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability_of(labels: np.ndarray, model: ModelRows) -> Reliability:
    """The rows of a model by the probability of the decided class."""
    confidence = model.confidence.astype(np.float64)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.intp) - 1, 0, BINS - 1)
    rows = np.bincount(bins, minlength=BINS)
    right = np.bincount(bins[model.decided == labels], minlength=BINS)
    said = np.bincount(bins, weights=confidence, minlength=BINS)
    divisor = np.where(rows > 0, rows, np.nan)
    return Reliability(rows, said / divisor, right / divisor)


def calibration_error(of: Reliability) -> float:
    """ECE: the gap between confidence and accuracy, averaged over rows."""
    filled = of.rows > 0
    gaps = np.abs(of.accuracy - of.confidence)[filled]
    return float(gaps @ of.rows[filled] / of.rows.sum())


def reliability(given: Analysed, decisions: Decisions) -> Columns:
    """`BINS` rows for the blend, every member with weight, and the best single one; confidence and
    accuracy are null where a bin has no rows."""
    shown = [decisions.blend] + [
        decisions.member(index)
        for index, name in enumerate(given.names)
        if given.weights[index] > 0 or name == given.best_single
    ]
    return reliability_columns(given.labels, shown)


def reliability_columns(labels: np.ndarray, shown: Sequence[ModelRows]) -> Columns:
    """`BINS` rows for each of the models."""
    every = [reliability_of(labels, model) for model in shown]
    edges = np.arange(BINS + 1) / BINS
    return {
        "model": np.repeat(np.array([model.name for model in shown], dtype=object), BINS),
        "bin": np.tile(np.arange(BINS), len(shown)),
        "low": np.tile(edges[:-1], len(shown)),
        "high": np.tile(edges[1:], len(shown)),
        "confidence": np.concatenate([of.confidence for of in every]),
        "accuracy": np.concatenate([of.accuracy for of in every]),
        "rows": np.concatenate([of.rows for of in every]),
    }
