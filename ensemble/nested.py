"""The honest score: predictions of a fitted blend for rows it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# (members, samples, classes) -> (samples, …), one result a row
Predict = Callable[[np.ndarray], np.ndarray]
# probs (members, samples, classes), labels (samples,), folds (samples,) -> what predicts
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], Predict]


def nested_predictions(
    probs: np.ndarray, labels: np.ndarray, folds: np.ndarray, fit: Fit
) -> NDArray[np.float64]:
    """Predict every fold with what was fitted on all other folds.

    `probs`: (M, N, C). `labels`, `folds`: (N,), at least two folds. `fit` is called once a fold
    with the rows of the other folds only; what it returns gets the held-out `probs` and no
    labels. Returns (N, C) float64, or (N, …) as the fitted function gives a result per row.
    Raises ValueError on a shape mismatch or a single fold.
    """
    n_rows = len(labels)
    if probs.ndim != 3 or probs.shape[1] != n_rows or folds.shape != (n_rows,):
        raise ValueError(
            f"expected probs (members, samples, classes), labels and folds (samples,), "
            f"got {probs.shape}, {labels.shape} and {folds.shape}"
        )
    names = np.unique(folds)
    if len(names) < 2:
        raise ValueError(f"expected at least two folds, got {len(names)}: nothing can be held out")
    out: NDArray[np.float64] | None = None
    for fold in names:
        held_out = folds == fold
        predict = fit(probs[:, ~held_out], labels[~held_out], folds[~held_out])
        predicted = np.asarray(predict(probs[:, held_out]))
        if predicted.shape[:1] != (int(held_out.sum()),):
            raise ValueError(
                f"fold {fold}: expected {int(held_out.sum())} predictions, got {predicted.shape}"
            )
        if out is None:
            out = np.empty((n_rows, *predicted.shape[1:]))
        out[held_out] = predicted
    assert out is not None
    return out
