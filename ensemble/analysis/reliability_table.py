"""Whether a model that says 90 % is right 9 times in 10: accuracy by confidence.

Source: Guo, Pleiss, Sun, Weinberger 2017, On Calibration of Modern Neural Networks, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble.analysis.decisions import Decisions, ModelRows
from ensemble.analysis.inputs import Analysed, Columns
from ensemble.reliability import BINS, Reliability, binned


def reliability_of(labels: np.ndarray, model: ModelRows) -> Reliability:
    """The rows of a model by the probability of the decided class."""
    return binned(model.confidence, model.decided == labels)


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
    return {
        "model": np.repeat(np.array([model.name for model in shown], dtype=object), BINS),
        "bin": np.tile(np.arange(BINS), len(shown)),
        "low": np.concatenate([of.low for of in every]),
        "high": np.concatenate([of.high for of in every]),
        "confidence": np.concatenate([of.confidence for of in every]),
        "accuracy": np.concatenate([of.accuracy for of in every]),
        "rows": np.concatenate([of.count for of in every]),
    }
