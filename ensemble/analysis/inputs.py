"""What is analysed: the out-of-fold predictions of a blend and of its members, as one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from ensemble.errors import BlendError

BLEND = "blend"  # what the blend is called where a table names models

Progress = Callable[[str], None]
# A member's name -> its out-of-fold probabilities (N, C) float32, rows in the order of `ids`.
ReadMember = Callable[[str], np.ndarray]
# A table in the making: columns by name, all of one length. NaN in a float column means null.
Columns = Mapping[str, np.ndarray | Sequence[object]]


@dataclass(frozen=True, eq=False)
class Analysed:
    """M members, N labelled rows, C classes. Every row is predicted by models that did not see it.

    ids          (N,) object array of str, each once
    labels       (N,) class index, all known
    folds        (N,) integers, the fold that held the row out
    classes      (C,) names
    names        (M,) of the members; none is called "blend"
    members      name -> (N, C) float32, a mapping or a function: read one at a time, not kept
    weights      (M,) non-negative, what each member weighs in the blend
    blend        (N, C) float32, the nested blend: a row by a blend not fitted on its fold
    best_single  name of the best single member

    Raises BlendError on a shape mismatch, an unknown label or NaN in the blend.
    """

    ids: NDArray[np.object_]
    labels: NDArray[np.integer]
    folds: NDArray[np.integer]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    members: Mapping[str, np.ndarray] | ReadMember
    weights: NDArray[np.floating]
    blend: NDArray[np.float32]
    best_single: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "names", tuple(self.names))
        _check_rows(self)
        _check_members(self)
        check_proba(BLEND, self.blend, self.n_rows, self.n_classes)

    @property
    def n_rows(self) -> int:
        return len(self.ids)

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    @property
    def n_members(self) -> int:
        return len(self.names)

    def read(self, name: str) -> np.ndarray:
        """The out-of-fold probabilities (N, C) of one member. Raises BlendError naming it when
        they have another shape or a NaN."""
        proba = self.members[name] if isinstance(self.members, Mapping) else self.members(name)
        proba = np.asarray(proba)
        check_proba(f"member {name}", proba, self.n_rows, self.n_classes)
        return proba

    def class_names(self, indices: np.ndarray) -> NDArray[np.object_]:
        """The names of the classes with these indices, in the same shape."""
        return np.array(self.classes, dtype=object)[indices]


def check_proba(name: str, proba: np.ndarray, n_rows: int, n_classes: int) -> None:
    """Raise BlendError unless `proba` is (n_rows, n_classes) without NaN."""
    if proba.shape != (n_rows, n_classes):
        raise BlendError(
            f"{name}: expected probabilities of shape ({n_rows}, {n_classes}), got {proba.shape}"
        )
    if np.isnan(proba.min()):
        row = int(np.argwhere(np.isnan(proba))[0][0])
        raise BlendError(f"{name}: expected probabilities, got NaN in row {row}")


def _check_rows(given: Analysed) -> None:
    shape = (given.n_rows,)
    if given.n_rows == 0 or given.labels.shape != shape or given.folds.shape != shape:
        raise BlendError(
            f"expected as many ids, labels and folds, at least one of each, got "
            f"{given.ids.shape}, {given.labels.shape} and {given.folds.shape}"
        )
    wrong = np.flatnonzero((given.labels < 0) | (given.labels >= given.n_classes))
    if len(wrong):
        raise BlendError(
            f"id {given.ids[wrong[0]]!r}: expected a known label from 0 to {given.n_classes - 1}, "
            f"got {given.labels[wrong[0]]}: leave rows without a label out"
        )


def _check_members(given: Analysed) -> None:
    if not given.names or len(set(given.names)) < given.n_members:
        raise BlendError(f"expected names of members, each once, got {list(given.names)}")
    if BLEND in given.names:
        raise BlendError(f"member {BLEND!r}: in the tables that is the blend itself; rename it")
    if given.weights.shape != (given.n_members,):
        raise BlendError(f"expected {given.n_members} weights, got {given.weights.shape}")
    if given.best_single not in given.names:
        nearest = get_close_matches(given.best_single, given.names, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise BlendError(f"best single member {given.best_single!r} is not a member{hint}")
