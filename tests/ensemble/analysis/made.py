"""Analysed values for tests: small ones by hand, plausible ones from a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ensemble.analysis.decisions import Decisions, decisions_of
from ensemble.analysis.inputs import Analysed
from tests.ensemble.made import member_probabilities

CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox")


def sure_of(decided: Sequence[int], n_classes: int, p: float = 0.7) -> NDArray[np.float32]:
    """(N, C): `p` for the decided class, the rest shared equally by the others."""
    proba = np.full((len(decided), n_classes), (1 - p) / (n_classes - 1), np.float32)
    proba[np.arange(len(decided)), list(decided)] = p
    return proba


def analysed(
    labels: Sequence[int],
    members: dict[str, NDArray[np.float32]],
    blend: NDArray[np.float32],
    *,
    folds: Sequence[int] | None = None,
    weights: Sequence[float] | None = None,
) -> Analysed:
    """By hand: rows called r0, r1, …; equal weights and alternating folds unless given."""
    n_rows, count = len(labels), len(members)
    return Analysed(
        ids=np.array([f"r{row}" for row in range(n_rows)], dtype=object),
        labels=np.array(labels),
        folds=np.arange(n_rows) % 2 if folds is None else np.array(folds),
        classes=CLASSES[: blend.shape[1]],
        names=tuple(members),
        members=members,
        weights=np.full(count, 1 / count) if weights is None else np.array(weights),
        blend=blend,
        best_single=next(iter(members)),
    )


def decided(
    labels: Sequence[int],
    members: dict[str, Sequence[int]],
    blend: Sequence[int],
    n_classes: int = 3,
    **others: Sequence[float],
) -> tuple[Analysed, Decisions]:
    """By hand, from decisions alone: every model gives its decision 0.7."""
    given = analysed(
        labels,
        {name: sure_of(of, n_classes) for name, of in members.items()},
        sure_of(blend, n_classes),
        **others,  # type: ignore[arg-type]
    )
    return given, decisions_of(given)


def plausible(seed: int, members: int = 4, rows: int = 60, classes: int = 5) -> Analysed:
    """Models of known strength; the blend is their mean."""
    probs, labels, folds = member_probabilities(seed, members, rows, classes, zeros=True)
    rng = np.random.default_rng(seed)
    names = tuple(f"c{index}" for index in range(members))
    return Analysed(
        ids=np.array([f"image {row:03d}.jpg" for row in range(rows)], dtype=object),
        labels=labels,
        folds=folds,
        classes=CLASSES[:classes],
        names=names,
        members=dict(zip(names, probs, strict=True)),
        weights=rng.dirichlet(np.ones(members)) * (rng.random(members) > 0.3),
        blend=probs.mean(axis=0),
        best_single=names[0],
    )
