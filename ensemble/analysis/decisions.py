"""What all tables are made of: for every model and row the decision and two probabilities.

One pass over the members, one member in memory at a time: 12 bytes a row and member stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.analysis.inputs import BLEND, Analysed, Progress


@dataclass(frozen=True, eq=False)
class ModelRows:
    """What one model says about the N rows.

    decided     (N,) int32, the most probable class (the first of equals)
    p_true      (N,) float32, the probability of the row's label
    confidence  (N,) float32, the probability of the decided class
    """

    name: str
    decided: NDArray[np.int32]
    p_true: NDArray[np.float32]
    confidence: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Decisions:
    """The blend's rows, and the members' as (M, N) arrays in the order of their names."""

    blend: ModelRows
    names: tuple[str, ...]
    decided: NDArray[np.int32]
    p_true: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def member(self, index: int) -> ModelRows:
        """The rows of one member, without a copy."""
        return ModelRows(
            self.names[index], self.decided[index], self.p_true[index], self.confidence[index]
        )

    def models(self) -> Iterator[ModelRows]:
        """The blend, then every member in order."""
        yield self.blend
        yield from map(self.member, range(len(self.names)))


def model_rows(name: str, proba: np.ndarray, labels: np.ndarray) -> ModelRows:
    """`proba` (N, C) of one model and `labels` (N,) as decisions."""
    decided = proba.argmax(axis=1)
    every = np.arange(len(labels))
    return ModelRows(
        name,
        decided.astype(np.int32),
        proba[every, labels].astype(np.float32),
        proba[every, decided].astype(np.float32),
    )


def decisions_of(given: Analysed, *, progress: Progress | None = None) -> Decisions:
    """Read every member once. Raises BlendError naming a member whose probabilities do not fit."""
    shape = (given.n_members, given.n_rows)
    decided = np.empty(shape, np.int32)
    p_true, confidence = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for index, name in enumerate(given.names):
        if progress is not None:
            progress(f"reading member {index + 1} of {given.n_members}: {name}")
        member = model_rows(name, given.read(name), given.labels)
        decided[index] = member.decided
        p_true[index] = member.p_true
        confidence[index] = member.confidence
    blend = model_rows(BLEND, given.blend, given.labels)
    return Decisions(blend, given.names, decided, p_true, confidence)
