"""Which column of a table is what, by what other programs commonly call it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from ensemble.errors import BlendError
from ensemble.sources.options import GatherOptions

Role = Literal["id", "label", "fold", "group", "weight"]

# Compared without regard to case; the first that is there is taken.
COMMON_NAMES: dict[Role, tuple[str, ...]] = {
    "id": (
        *("id", "image_id", "img_id", "row_id", "uuid", "filename", "file_name", "image_name"),
        *("file", "image", "path", "file_path", "name"),
    ),
    "label": ("label", "class", "target", "y_true", "true_label", "category"),
    "fold": ("fold", "kfold", "folds", "fold_id"),
    "group": ("group", "groups", "group_id"),
    "weight": ("weight", "sample_weight", "row_weight", "weights"),
}
PREFIXES = ("proba_", "prob_", "p_", "pred_", "class_")
# Numbers that programs write beside the probabilities, and that are none of them.
BESIDE = frozenset({"index", "pred", "prediction", "predicted", "confidence", "p_true", "loss"})
# What pandas calls the row numbers that it writes into a table.
INDEX_NAMES = frozenset({"", "unnamed: 0", "level_0", "__index_level_0__"})
WHOLE_NUMBER = re.compile(r"-?\d+", re.ASCII)
SHOWN = 8  # how many column names an error shows


@dataclass(frozen=True)
class ClassColumns:
    """`columns` of a table that hold probabilities, and the class `names` of each; None where
    they are numbered instead: then in the order of the numbers."""

    columns: tuple[str, ...]
    names: tuple[str, ...] | None


def find_column(names: Sequence[str], role: Role, options: GatherOptions) -> str | None:
    """The column of that role, None where there is none: the one that `options` names, or else one
    with a common name."""
    asked = getattr(options, f"{role}_column")
    if asked in names:
        return str(asked)
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[name] for name in COMMON_NAMES[role] if name in by_lower), None)


def need_column(names: Sequence[str], role: Role, options: GatherOptions) -> str:
    """As `find_column`, but raises BlendError, with the nearest name, where there is none or not
    the one that `options` names."""
    asked = getattr(options, f"{role}_column")
    found = find_column(names, role, options)
    if asked is not None and found != asked:
        nearest = get_close_matches(asked, names, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise BlendError(f"no {role} column {asked!r} among {shown(names)}{hint}")
    if found is None:
        raise BlendError(
            f"no {role} column among {shown(names)}: call it {COMMON_NAMES[role][0]!r} or say "
            f"which one it is"
        )
    return found


def role_columns(names: Sequence[str], options: GatherOptions) -> frozenset[str]:
    """The columns that are not probabilities because they are something else."""
    found = (find_column(names, role, options) for role in COMMON_NAMES)
    return frozenset(name for name in found if name is not None)


def index_columns(names: Sequence[str]) -> frozenset[str]:
    """The columns that are row numbers by their names. `level_0` beside `level_1` is none: then
    they are levels of something."""
    lower = {name.lower() for name in names}
    wanted = INDEX_NAMES - ({"level_0"} if "level_1" in lower else set())
    return frozenset(name for name in names if name.lower() in wanted)


def by_size(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted; whole numbers by size, so that class 10 follows 9 and not 1."""
    found = list(names)
    if are_whole_numbers(found):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def are_whole_numbers(names: Iterable[str]) -> bool:
    return all(map(WHOLE_NUMBER.fullmatch, names))


def class_columns(
    names: Sequence[str], numeric: Collection[str], label_names: Collection[str]
) -> ClassColumns:
    """Which of the columns `names` hold probabilities: those called as the classes, those with a
    common prefix (`proba_cat`), or those numbered from 0. `numeric`: the columns that hold
    numbers; `label_names`: the classes of the labels, where known. Raises BlendError, with the
    columns that are there, where none do.
    """
    numbers = set(numeric) - (index_columns(names) - set(label_names))
    candidates = [name for name in names if name in numbers]
    if label_names and set(label_names) <= set(candidates):
        return _named([(name, name) for name in candidates if _kept(name, label_names)])
    for prefix in PREFIXES:
        stripped = [
            (name, name[len(prefix) :]) for name in candidates if name.lower().startswith(prefix)
        ]
        stripped = [pair for pair in stripped if pair[0].lower() not in BESIDE and pair[1]]
        if len(stripped) >= 2:
            return _named(stripped)
    plain = [(name, name) for name in candidates if name.lower() not in BESIDE]
    if len(plain) < 2:
        raise BlendError(
            f"no probabilities: expected one column of numbers for each class, named by the class "
            f"or from 0, got the columns {shown(names)}"
        )
    return _named(plain)


def _kept(name: str, label_names: Collection[str]) -> bool:
    return name in label_names or name.lower() not in BESIDE


def _named(pairs: Sequence[tuple[str, str]]) -> ClassColumns:
    numbers = [int(name) if name.isascii() and name.isdigit() else -1 for _, name in pairs]
    if sorted(numbers) == list(range(len(pairs))):
        ordered = sorted(zip(numbers, pairs, strict=True))
        return ClassColumns(tuple(column for _, (column, _) in ordered), None)
    return ClassColumns(tuple(column for column, _ in pairs), tuple(name for _, name in pairs))


def shown(names: Sequence[str], limit: int = SHOWN) -> str:
    """Up to eight names for an error."""
    return ", ".join(map(repr, names[:limit])) + (
        f", … ({len(names)})" if len(names) > limit else ""
    )
