"""What each member adds to the blend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.fitting import Fitter, joined
from ensemble.library import Library
from ensemble.nested import last
from ensemble.outcome import Outcome


@dataclass(frozen=True)
class Contribution:
    """Of one member: `without`, the nested score of the same method refitted without it (None
    where it has no weight), and the share of rows that no other member gets right (None where
    only the true class's probability is known)."""

    without: float | None
    only_right: float | None


def contributions(fitter: Fitter, method: str, weights: np.ndarray) -> list[Contribution]:
    """Of every member of the fitter, in its order; `weights` (M,) say who is used."""
    assert fitter.members is not None
    alone = only_right(fitter.library)
    found = []
    for index, member in enumerate(fitter.members.tolist()):
        without = None
        if weights[index] > 0 and len(fitter.members) > 1:
            fitter.say(f"the blend without member {index + 1} of {len(fitter.members)}")
            without = _nested_score(fitter.without(member, method), method)
        found.append(Contribution(without, None if alone is None else float(alone[member])))
    return found


def only_right(library: Library) -> NDArray[np.float64] | None:
    """(M,): the share of rows that a member alone decides rightly."""
    if library.probs is None:
        return None
    right = np.stack([proba.argmax(axis=1) == library.labels for proba in library.probs])
    alone = right & (right.sum(axis=0) == 1)
    return np.asarray(np.average(alone, axis=1, weights=library.row_weights))


def _nested_score(fitter: Fitter, method: str) -> float:
    library, metric = fitter.library, fitter.settings.metric
    keep = () if metric.from_true_class or metric.from_decisions else (method,)
    parts, rows = [], []
    for fold in library.fold_names:
        out = frozenset({fold})
        rows.append(fitter.rows_in(out))
        parts.append(last(fitter.predict(out, rows[-1], (method,), keep)[method]))
    every: Outcome = joined(parts)
    order = np.concatenate(rows)
    weights = None if library.row_weights is None else library.row_weights[order]
    return every.score(metric, library.labels[order], weights)
