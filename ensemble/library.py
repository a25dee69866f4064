"""A library of models: what all members predict for the same labelled rows, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.predictions import UNKNOWN_LABEL, Predictions
from ensemble.scratch import MEMORY_BYTES, empty_array


@dataclass(frozen=True, eq=False)
class Library:
    """M members, N labelled rows, C classes.

    names        (M,) of the members, ascending
    ids          (N,) object array of str
    labels       (N,) int32 class index, all known
    folds        (N,) int16, the fold that held the row out; at least two
    p_true       (M, N) float32, each member's probability of the row's true class
    probs        (M, N, C) float32, or None where only the true class's was read
    groups       (N,) object, rows that belong together; None: every row for itself
    row_weights  (N,) float64, None: all equal; above 0 in at least two folds
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    ids: NDArray[np.object_]
    labels: NDArray[np.int32]
    folds: NDArray[np.int16]
    p_true: NDArray[np.float32]
    probs: NDArray[np.float32] | None = None
    groups: NDArray[np.object_] | None = None
    row_weights: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        unknown = np.flatnonzero(self.labels == UNKNOWN_LABEL)
        if len(unknown):
            raise BlendError(
                f"expected a label in every row, got {len(unknown)} without (first id "
                f"{self.ids[unknown[0]]!r}); a blend is fitted on known labels"
            )
        if len(self.fold_names) < 2:
            raise BlendError(
                f"expected rows of at least two folds, got {list(self.fold_names)}: "
                "a nested score holds one out"
            )
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise BlendError(f"expected {self.n_rows} groups, got {self.groups.shape}")
        if self.row_weights is not None:
            _check_row_weights(self.row_weights, self.n_rows)
            _check_weighted_folds(self.weighted_folds, self.fold_names)

    @property
    def n_rows(self) -> int:
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    def weights_of(self, rows: NDArray[np.generic]) -> NDArray[np.float64] | None:
        """The row weights of the given rows (indices or a mask), None where all are equal."""
        return None if self.row_weights is None else self.row_weights[rows]

    def groups_of(self, rows: NDArray[np.generic]) -> NDArray[np.object_] | None:
        """The groups of the given rows (indices or a mask), None where there are none."""
        return None if self.groups is None else self.groups[rows]

    @cached_property
    def fold_names(self) -> tuple[int, ...]:
        """The folds, ascending."""
        return tuple(int(fold) for fold in np.unique(self.folds))

    @cached_property
    def weighted_folds(self) -> frozenset[int]:
        """The folds with a row of weight above 0: others teach nothing."""
        if self.row_weights is None:
            return frozenset(self.fold_names)
        return frozenset(np.unique(self.folds[self.row_weights > 0]).tolist())


def read_library(
    names: Sequence[str],
    read: Callable[[str], Predictions],
    classes: Sequence[str],
    *,
    groups: Mapping[str, str | None] | NDArray[np.object_] | None = None,
    row_weights: NDArray[np.float64] | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Library:
    """The library of the members `names`; `read(name)` is called once each, in their order, and
    what it returned is not kept. `groups`: by id, or (N,) in the row order of the first member.

    Raises BlendError, naming the member, where members have other ids, labels, folds or classes
    than the first one, or a row without a label.
    """
    if not names:
        raise BlendError("expected at least one member, got none")
    first = names[0]
    reference = read(first)
    _check_reference(first, reference, classes)
    ordered = tuple(sorted(names))
    shape = (len(ordered), reference.n_rows, reference.n_classes)
    probs = empty_array(shape, np.float32, memory_bytes=memory_bytes)
    p_true = np.empty(shape[:2], np.float32)
    for index, name in enumerate(ordered):
        member = reference if name == first else _aligned(name, read(name), first, reference)
        probs[index] = member.proba
        p_true[index] = member.p_true
    return Library(
        names=ordered,
        classes=tuple(classes),
        ids=reference.ids,
        labels=reference.labels,
        folds=reference.folds,
        p_true=p_true,
        probs=probs,
        groups=_group_rows(reference.ids, groups),
        row_weights=row_weights,
    )


def _check_reference(name: str, member: Predictions, classes: Sequence[str]) -> None:
    if member.n_classes != len(classes):
        raise BlendError(f"member {name}: expected {len(classes)} classes, got {member.n_classes}")
    unknown = np.flatnonzero(member.labels == UNKNOWN_LABEL)
    if len(unknown):
        raise BlendError(
            f"member {name}: expected a label in every row, got {len(unknown)} "
            f"without (first id {member.ids[unknown[0]]!r}); a blend is fitted on known labels"
        )
    if len(np.unique(member.folds)) < 2:
        raise BlendError(
            f"member {name}: expected rows of at least two folds, "
            f"got {np.unique(member.folds).tolist()}: a nested score holds one out"
        )


def _aligned(
    name: str, member: Predictions, reference_name: str, reference: Predictions
) -> Predictions:
    """The member's rows in the order of the reference. One that differs in anything but the
    probabilities would be judged by other labels, or leak through other folds."""
    if member.n_classes != reference.n_classes:
        raise BlendError(
            f"member {name}: expected {reference.n_classes} classes as in {reference_name}, "
            f"got {member.n_classes}"
        )
    try:
        aligned = member.aligned_to(reference.ids)
    except BlendError as error:
        raise BlendError(f"member {name} beside {reference_name}: {error}") from error
    for word, mine, theirs in (
        ("label", aligned.labels, reference.labels),
        ("fold", aligned.folds, reference.folds),
    ):
        wrong = np.flatnonzero(mine != theirs)
        if len(wrong):
            row = wrong[0]
            raise BlendError(
                f"member {name}, id {reference.ids[row]!r}: expected {word} {theirs[row]} "
                f"as in {reference_name}, got {mine[row]} ({len(wrong)} rows differ)"
            )
    return aligned


def _group_rows(
    ids: NDArray[np.object_], groups: Mapping[str, str | None] | NDArray[np.object_] | None
) -> NDArray[np.object_] | None:
    if groups is None or not isinstance(groups, Mapping):
        return None if groups is None else np.asarray(groups, dtype=object)
    missing = [name for name in ids if name not in groups]
    if missing:
        raise BlendError(
            f"expected a group (or None) for every id, got none for {len(missing)} "
            f"(first {missing[0]!r})"
        )
    return np.array([groups[name] for name in ids], dtype=object)


def _check_row_weights(row_weights: np.ndarray, n_rows: int) -> None:
    if row_weights.shape != (n_rows,):
        raise BlendError(f"expected {n_rows} row weights, got {row_weights.shape}")
    if not (np.all(np.isfinite(row_weights)) and row_weights.min() >= 0 and row_weights.sum() > 0):
        raise BlendError("expected finite row weights of at least 0, not all of them 0")


def _check_weighted_folds(weighted: frozenset[int], folds: Sequence[int]) -> None:
    if len(weighted) < 2:
        raise BlendError(
            f"expected row weights above 0 in at least two of the folds {list(folds)}, got them "
            f"in fold {', '.join(map(str, weighted))} alone: a nested score holds one out and "
            "learns from another; give weights to rows of other folds, or leave them out"
        )
