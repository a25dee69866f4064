"""What a user hands to `FoldBlender`, checked, and as arrays that the core understands."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets

from ensemble.errors import BlendError
from ensemble.metrics import check_row_weights
from ensemble.predictions import EXAMPLES, ROUNDING, Predictions

KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = MappingProxyType(
    {
        "metric": (str, "a metric's name"),
        "methods": ((str, tuple, list), "names of methods"),
        "calibrate": ((bool, np.bool_), "True or False"),
        "calibrate_blend": (str, "none, temperature or vector"),
        "greedy_steps": (Integral, "a whole number"),
        "l2": (Real, "a number"),
        "n_members": ((Integral, type(None)), "a whole number or None"),
        "n_folds": (Integral, "a whole number"),
        "refits": (Integral, "a whole number"),
        "bootstrap": (Integral, "a whole number"),
        "confidence": (Real, "a number"),
        "explain": ((bool, np.bool_), "True or False"),
    }
)
LEAST = MappingProxyType({"n_folds": 2, "n_members": 1})


def check_parameters(parameters: Mapping[str, object]) -> None:
    """Raise ValueError, naming the parameter, for one of another kind than `KINDS` says."""
    for name, (kind, words) in KINDS.items():
        value = parameters[name]
        # To Python True is a number; nobody means it as one.
        mistaken = isinstance(value, bool) and "number" in words
        if mistaken or not isinstance(value, kind):
            raise ValueError(f"{name}: expected {words}, got {value!r}")
        if name in LEAST and isinstance(value, Integral) and int(value) < LEAST[name]:
            raise ValueError(f"{name}: expected {LEAST[name]} or more, got {value}")


def seed_of(random_state: int | np.random.RandomState | None) -> int:
    """An int as it is, else one drawn by scikit-learn's rules (None: by chance)."""
    generator = check_random_state(random_state)
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(generator.randint(2**31 - 1))


def classes_and_labels(
    y: np.ndarray, classes: ArrayLike | None
) -> tuple[np.ndarray, NDArray[np.intp]]:
    """The classes (C,) in the order of the columns, by default those of `y` (N,) sorted, and each
    row's index among them (N,). Raises ValueError for a label that is no class, and for what
    scikit-learn takes for measurements."""
    try:
        check_classification_targets(y)
        found, labels = np.unique(y, return_inverse=True)
    except TypeError as error:  # text and numbers have no order
        raise ValueError(f"y: expected labels of one type, got several: {error}") from error
    if classes is None:
        return found, labels
    given = np.asarray(classes)
    index_of = {label: index for index, label in enumerate(given.ravel().tolist())}
    if given.ndim != 1 or len(index_of) != len(given):
        raise ValueError(f"classes: expected every label once, (classes,), got {given!r}")
    missing = [label for label in found.tolist() if label not in index_of]
    if missing:
        shown = ", ".join(repr(label) for label in missing[:EXAMPLES])
        raise ValueError(f"y: expected labels among classes, got {shown}")
    return given, np.array([index_of[label] for label in found.tolist()], dtype=np.intp)[labels]


def row_weights_of(sample_weight: ArrayLike | None, n_rows: int) -> NDArray[np.float64] | None:
    """(N,) float64 or None. Raises ValueError unless finite, non-negative and not all zero."""
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.size and not weights.any():
        raise ValueError("sample_weight: expected a weight above 0, got nothing but zero")
    check_row_weights(weights, n_rows)
    return weights


def groups_of(groups: ArrayLike | None, n_rows: int) -> NDArray[np.object_] | None:
    """(N,) object, None for a row without a group (None or NaN)."""
    if groups is None:
        return None
    given = np.asarray(groups)
    if given.shape != (n_rows,):
        raise ValueError(f"groups: expected shape ({n_rows},), got {given.shape}")
    named = np.empty(n_rows, dtype=object)
    for row, name in enumerate(given.tolist()):
        named[row] = None if name is None or name != name else name
    return named


def fold_numbers(
    folds: ArrayLike, groups: NDArray[np.object_] | None, n_rows: int
) -> NDArray[np.intp]:
    """(N,) from 0, in the order of the folds' names. Raises ValueError for fewer than two, NaN, or
    a group in more than one: its rows would be judged by weights that saw their like."""
    given = np.asarray(folds)
    if given.shape != (n_rows,):
        raise ValueError(f"folds: expected shape ({n_rows},), got {given.shape}")
    if given.dtype.kind == "f" and not np.all(np.isfinite(given)):
        row = int(np.argmin(np.isfinite(given)))
        raise ValueError(f"folds: expected a fold in every row, got {given[row]} in row {row}")
    names, numbers = np.unique(given, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"folds: expected at least two, got {names.tolist()}: a nested score holds one out"
        )
    if groups is not None:
        _check_groups_whole(groups, numbers, names)
    return numbers


def _check_groups_whole(
    groups: NDArray[np.object_], numbers: NDArray[np.intp], names: np.ndarray
) -> None:
    fold_of: dict[object, int] = {}
    for group, fold in zip(groups, numbers.tolist(), strict=True):
        if group is not None and fold_of.setdefault(group, fold) != fold:
            raise ValueError(
                f"folds: expected all rows of a group in one fold, got group {group!r} in "
                f"{names[fold_of[group]]} and {names[fold]}"
            )


def from_mapping(members: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Arrays by name, in the mapping's order. Raises ValueError for none or a name that is no
    text."""
    if not members:
        raise ValueError("expected at least one member, got none")
    for name in members:
        if not isinstance(name, str):
            raise ValueError(f"expected the names of members as text, got {name!r}")
    return {name: np.asarray(proba) for name, proba in members.items()}


def n_dimensions(members: object) -> int:
    """Of an array or nested lists; 2 where that cannot be told, so that the caller's check of a
    table says what is wrong."""
    known = getattr(members, "ndim", None)
    if isinstance(known, int):
        return known
    if not isinstance(members, list | tuple):
        return 2
    try:
        return np.ndim(members)
    except ValueError:  # rows of different lengths
        return 2


def checked(
    name: str,
    proba: np.ndarray,
    n_classes: int,
    ids: NDArray[np.object_],
    labels: np.ndarray,
    folds: np.ndarray,
) -> Predictions:
    """One member's rows (N, C) as Predictions. Raises BlendError, naming the member (and the row,
    where it is one), for another shape or what is no probability."""
    if proba.shape != (len(ids), n_classes):
        raise BlendError(
            f"member {name}: expected {len(ids)} rows of {n_classes} classes, got {proba.shape}"
        )
    if proba.dtype.kind in "fiu":
        _check_values(name, proba)
    try:
        return Predictions(ids, labels, folds, proba)
    except BlendError as error:
        raise BlendError(f"member {name}: {error}") from error


def _check_values(name: str, proba: np.ndarray) -> None:
    """In scikit-learn's words, which its own tools look for."""
    lowest = proba.min(initial=0)
    if np.isnan(lowest):
        row, column = np.argwhere(np.isnan(proba))[0]
        raise BlendError(
            f"member {name}, row {row}, class {column}: expected a probability from 0 to 1, got NaN"
        )
    if lowest < -ROUNDING:
        row, column = np.argwhere(proba < -ROUNDING)[0]
        raise BlendError(
            f"Negative values in data: member {name}, row {row}, class {column}: expected a "
            f"probability from 0 to 1, got {proba[row, column]}"
        )


def checked_folds(name: str, proba: np.ndarray, n_classes: int) -> NDArray[np.float32]:
    """Predictions of a member's fold models, (folds, n, C), or of one, (n, C), as the former.
    Raises BlendError as `checked` does."""
    parts = proba[np.newaxis] if proba.ndim == 2 else proba
    if parts.ndim != 3 or not parts.shape[0] or not parts.shape[1]:
        raise BlendError(
            f"member {name}: expected probabilities (rows, classes) or (folds, rows, classes) of "
            f"at least one row, got {proba.shape}"
        )
    n_rows = parts.shape[1]
    ids = np.array([str(row) for row in range(n_rows)], dtype=object)
    none = np.full(n_rows, -1)
    return np.stack([checked(name, part, n_classes, ids, none, none).proba for part in parts])
