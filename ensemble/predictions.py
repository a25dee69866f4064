"""Predictions: ids, labels, folds and probabilities of one model, checked once, where made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.errors import BlendError

UNKNOWN_LABEL = -1
SUM_TOLERANCE = 1e-3
ROUNDING = 1e-6  # an average of float32 probabilities may leave [0, 1] by a rounding error
EXAMPLES = 3  # how many ids an error shows


@dataclass(frozen=True, eq=False)
class Predictions:
    """One row per image; N rows, C classes. The arrays are read-only.

    ids     (N,) object array of str, each once, compared exactly
    labels  (N,) int32 class index, -1 where unknown
    folds   (N,) int16, the fold that held the row out (-1: none)
    proba   (N, C) float32; each row must sum to 1 within 1e-3, and is divided by its sum where
            that is off by more than rounding (1e-6): a factor would be a gain in log loss

    Raises BlendError for anything else.
    """

    ids: NDArray[np.object_]
    labels: NDArray[np.int32]
    folds: NDArray[np.int16]
    proba: NDArray[np.float32]

    def __post_init__(self) -> None:
        proba = _checked_proba(self.proba)
        ids = _checked_ids(self.ids)
        labels = _integers("labels", self.labels, np.int32)
        folds = _integers("folds", self.folds, np.int16)
        lengths = {"ids": ids, "labels": labels, "folds": folds, "proba": proba}
        if len({len(values) for values in lengths.values()}) > 1:
            counts = ", ".join(f"{len(values)} {name}" for name, values in lengths.items())
            raise BlendError(f"expected as many ids, labels, folds and rows, got {counts}")
        _check_label_range(ids, labels, proba.shape[1])
        for name, values in lengths.items():
            object.__setattr__(self, name, _read_only(values))

    @property
    def n_rows(self) -> int:
        return len(self.ids)

    @property
    def n_classes(self) -> int:
        return int(self.proba.shape[1])

    @property
    def p_true(self) -> NDArray[np.float32]:
        """(N,) float32: the probability of the true class, NaN where the label is unknown."""
        known = self.labels != UNKNOWN_LABEL
        chosen = self.proba[np.arange(self.n_rows), np.where(known, self.labels, 0)]
        return np.where(known, chosen, np.float32(np.nan))

    def take(self, rows: NDArray[np.generic] | slice | Sequence[int]) -> Predictions:
        """The given rows (indices, a mask or a slice), in that order."""
        where = rows if isinstance(rows, slice) else np.asarray(rows)
        if not isinstance(where, slice) and not where.size:
            where = where.astype(np.intp)  # numpy takes [] for floats
        return Predictions(
            self.ids[where], self.labels[where], self.folds[where], self.proba[where]
        )

    def aligned_to(self, ids: Iterable[str]) -> Predictions:
        """The same rows in the order of `ids`. Raises BlendError, naming up to three of them, when
        ids are missing here or are not among those asked for."""
        wanted = _checked_ids(np.asarray(list(ids), dtype=object))
        if len(wanted) == self.n_rows and bool(np.all(wanted == self.ids)):
            return self
        row_of = {name: row for row, name in enumerate(self.ids)}
        missing = [name for name in wanted if name not in row_of]
        known = set(wanted)
        unexpected = [name for name in self.ids if name not in known]
        if missing or unexpected:
            problems = [_listed(len(missing), "missing", missing)] if missing else []
            problems += [_listed(len(unexpected), "unexpected", unexpected)] if unexpected else []
            raise BlendError(
                f"expected {len(wanted)} ids, got {self.n_rows}: {'; '.join(problems)}"
            )
        return self.take(np.array([row_of[name] for name in wanted], dtype=np.intp))


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """All rows, one part after the other. Raises BlendError when an id is in two parts or the
    numbers of classes differ."""
    if not parts:
        raise BlendError("expected at least one part to concatenate, got none")
    widths = sorted({part.n_classes for part in parts})
    if len(widths) > 1:
        raise BlendError(f"expected one number of classes, got parts with {widths}")
    return Predictions(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.folds for part in parts]),
        np.concatenate([part.proba for part in parts]),
    )


def _listed(count: int, word: str, names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:EXAMPLES])
    return f"{count} {word} ({shown}{', …' if count > EXAMPLES else ''})"


def _read_only(values: np.ndarray) -> np.ndarray:
    view = values.view()  # the caller's own array stays writable
    view.setflags(write=False)
    return view


def _checked_ids(values: np.ndarray) -> NDArray[np.object_]:
    ids = np.asarray(values).astype(object, copy=False)
    if ids.ndim != 1:
        raise BlendError(f"expected ids of shape (rows,), got {ids.shape}")
    for row, name in enumerate(ids):
        if not isinstance(name, str):
            raise BlendError(
                f"row {row}: expected the id as text, got {name!r} ({type(name).__name__})"
            )
    if len(set(ids)) != len(ids):
        name, times = next(item for item in Counter(ids).items() if item[1] > 1)
        raise BlendError(f"expected every id once, got {name!r} {times} times")
    return ids


def _integers(name: str, values: np.ndarray, dtype: type[np.signedinteger]) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise BlendError(f"expected {name} of shape (rows,), got {array.shape}")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise BlendError(f"expected {name} as integers, got {array.dtype}")
    limits = np.iinfo(dtype)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise BlendError(f"expected {name} within {dtype.__name__}, got up to {array.max()}")
    return array.astype(dtype, copy=False)


def _check_label_range(ids: np.ndarray, labels: np.ndarray, n_classes: int) -> None:
    wrong = np.flatnonzero((labels < UNKNOWN_LABEL) | (labels >= n_classes))
    if len(wrong):
        row = wrong[0]
        raise BlendError(
            f"id {ids[row]!r}: expected a label from -1 (unknown) to {n_classes - 1}, "
            f"got {labels[row]}"
        )


def _checked_proba(values: np.ndarray) -> NDArray[np.float32]:
    proba = np.asarray(values)
    if proba.ndim != 2 or proba.shape[1] == 0 or proba.dtype.kind not in "fiu":
        raise BlendError(
            f"expected probabilities of shape (rows, classes), got {proba.dtype} {proba.shape}"
        )
    proba = np.ascontiguousarray(proba, dtype=np.float32)
    if not len(proba):
        return proba
    low, high = proba.min(), proba.max()  # NaN anywhere makes both NaN
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        row, column = np.argwhere(~((proba >= -ROUNDING) & (proba <= 1 + ROUNDING)))[0]
        raise BlendError(
            f"row {row}, class {column}: expected a probability from 0 to 1, "
            f"got {proba[row, column]}"
        )
    sums = proba.sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(np.abs(sums - 1.0) > SUM_TOLERANCE)
    if len(wrong):
        raise BlendError(f"row {wrong[0]}: expected a sum of 1, got {sums[wrong[0]]:.6g}")
    if low < 0 or high > 1:
        proba = np.clip(proba, 0.0, 1.0)
    return _summing_to_one(proba, sums)


def _summing_to_one(proba: NDArray[np.float32], sums: NDArray[np.float64]) -> NDArray[np.float32]:
    rough = np.flatnonzero(np.abs(sums - 1.0) > ROUNDING)
    if not len(rough):
        return proba
    proba = proba.copy()  # it may be the caller's own
    proba[rough] /= proba[rough].sum(axis=1, dtype=np.float64, keepdims=True)
    return proba
