"""What each member adds to the blend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.fitting import Fitter, fit_ways, joined, of_true_class, outcome_of
from ensemble.library import Library
from ensemble.outcome import Outcome

EXPLAINED = 16  # members: leaving one out costs a whole nested score


@dataclass(frozen=True)
class Contribution:
    """Of one member: `without`, the nested score of the same method refitted without it (None
    where it has no weight, or where 16 others weigh as much or more), and the share of rows that
    no other member gets right (None where only the true class's probability is known)."""

    without: float | None
    only_right: float | None


def contributions(fitter: Fitter, method: str, weights: np.ndarray) -> list[Contribution]:
    """Of every member of the library, in its order; `weights` (M,) say who is used."""
    library = fitter.library
    alone = only_right(library)
    heaviest = np.argsort(-weights, kind="stable")[:EXPLAINED]
    used = heaviest[weights[heaviest] > 0].tolist() if len(library.names) > 1 else []
    without = _scores_without(fitter, method, used)
    return [
        Contribution(without.get(member), None if alone is None else float(alone[member]))
        for member in range(len(library.names))
    ]


def only_right(library: Library) -> NDArray[np.float64] | None:
    """(M,): the share of rows that a member alone decides rightly."""
    if library.probs is None:
        return None
    right = np.stack([proba.argmax(axis=1) == library.labels for proba in library.probs])
    alone = right & (right.sum(axis=0) == 1)
    return np.asarray(np.average(alone, axis=1, weights=library.row_weights))


def _scores_without(fitter: Fitter, method: str, members: Sequence[int]) -> dict[int, float]:
    """The nested score of `method` without each of the members."""
    library, metric = fitter.library, fitter.settings.metric
    parts: dict[int, list[Outcome]] = {member: [] for member in members}
    for fold in library.fold_names if members else ():
        fitter.say(f"the blend without each of {len(members)} members: fold {fold} held out")
        _add_fold(fitter, method, frozenset({fold}), parts)
    rows = np.concatenate([fitter.rows_in(frozenset({fold})) for fold in library.fold_names])
    row_weights = library.weights_of(rows)
    return {
        member: joined(found).score(metric, library.labels[rows], row_weights)
        for member, found in parts.items()
    }


def _add_fold(
    fitter: Fitter, method: str, out: frozenset[int], parts: Mapping[int, list[Outcome]]
) -> None:
    """Predict the rows of `out` without each member. Members are tempered once, for all of them."""
    library, metric = fitter.library, fitter.settings.metric
    keep = not (metric.from_true_class or metric.from_decisions)
    temperatures = fitter.temperatures(out)
    learnt = fitter.fit_rows(out)
    fits = {
        member: fit_ways(
            learnt.without(member),
            np.delete(temperatures, member),
            fitter.settings,
            (method,),
            library.n_classes,
        )
        for member in parts
    }
    rows = fitter.rows_in(out)
    for block in fitter.blocks(rows):
        labels = library.labels[rows[block]]
        if library.probs is None:
            p_true = library.p_true[:, rows[block]]
            for member, found in parts.items():
                others = np.delete(p_true, member, axis=0)
                found.append(of_true_class(fits[member], method, others, library.n_classes))
            continue
        probs = fitter.tempered(rows[block], temperatures)
        for member, found in parts.items():
            kept = [proba for index, proba in enumerate(probs) if index != member]
            *_, (_, proba) = fits[member].stages(method, kept)
            found.append(outcome_of(labels, proba, keep=keep))
