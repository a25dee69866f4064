"""Folds for predictions that came without any."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from ensemble.errors import BlendError


def make_folds(
    labels: NDArray[np.integer], groups: NDArray[np.object_] | None, *, folds: int, seed: int
) -> NDArray[np.int16]:
    """(N,) int16 from 0: stratified by `labels` (N,); rows of one group (N, None: of no group) stay
    together. Raises BlendError for fewer rows or groups than folds."""
    keys = None
    if groups is not None:
        # A row without a group is a group of its own.
        named = [(0, name) if name is not None else (1, row) for row, name in enumerate(groups)]
        number = {key: index for index, key in enumerate(dict.fromkeys(named))}
        keys = np.array([number[key] for key in named])
    available, word = (len(labels), "rows") if keys is None else (int(keys.max()) + 1, "groups")
    if available < folds:
        raise BlendError(f"expected at least {folds} {word} for {folds} folds, got {available}")
    # Classes rarer than folds cannot be in each of them: together they are one class, or part of
    # the commonest.
    counts = np.bincount(labels)
    rare = counts[labels] < folds
    strata = np.where(rare, -1 if rare.sum() >= folds else counts.argmax(), labels)
    if keys is None:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    else:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    made = np.empty(len(labels), np.int16)
    for fold, (_, rows) in enumerate(splitter.split(np.zeros(len(labels)), strata, keys)):
        made[rows] = fold
    return made
