"""One file's rows and columns in the order of the labels and classes, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.predictions import ROUNDING, SUM_TOLERANCE, UNKNOWN_LABEL, Predictions
from ensemble.sources.columns import shown
from ensemble.sources.label_table import MINUS_ONE, LabelTable
from ensemble.sources.raw import RawPredictions

EXAMPLES = 3  # how many names an error shows


@dataclass(frozen=True, eq=False)
class Reference:
    """What every member is matched to: N rows of known labels, and C class names in order.

    where   the file that the rows are from, for messages
    labels  (N,) int32
    folds   (N,) int16
    """

    where: str
    classes: tuple[str, ...]
    ids: NDArray[np.object_]
    labels: NDArray[np.int32]
    folds: NDArray[np.int16]


def align_member(
    raw: RawPredictions, reference: Reference, *, normalise: bool = False
) -> tuple[Predictions, list[str]]:
    """The rows of the reference as `raw` predicts them, and what was left out or assumed.

    Raises BlendError, naming the file and up to three ids or classes, where rows are missing (or,
    in a run on other data, unexpected), labels differ, or something is no probability.
    """
    notes = list(raw.notes)
    rows, left_out = _rows_of(raw, reference)
    if left_out:
        notes.append(left_out)
    if raw.labels is not None:
        _check_labels(raw.labels, reference)
    values, changed = _probabilities(raw, rows, reference.classes, normalise)
    if changed:
        notes.append(changed)
    return Predictions(reference.ids, reference.labels, reference.folds, values), notes


def align_test(
    raw: RawPredictions,
    classes: tuple[str, ...],
    ids: NDArray[np.object_] | None = None,
    *,
    where: str = "",
    normalise: bool = False,
) -> tuple[Predictions, list[str]]:
    """Test predictions, rows in the order of `ids` (those of the file `where`; None: as they
    stand). Raises BlendError where the ids are not the same, and as `align_member`."""
    wanted = raw.ids if ids is None else ids
    rows = _matched(raw, wanted, where, exact=True)[0]
    values, changed = _probabilities(raw, rows, classes, normalise)
    unknown = np.full(len(rows), UNKNOWN_LABEL)
    made = Predictions(wanted, unknown.astype(np.int32), unknown.astype(np.int16), values)
    return made, [*raw.notes, *([changed] if changed else [])]


def unnamed_columns(files: Sequence[str], classes: tuple[str, ...]) -> list[str]:
    """A note where the columns of `files`, which have no names, are taken for classes that have
    some: nothing but their order says which is which."""
    if not files or classes == tuple(map(str, range(len(classes)))):
        return []
    more = f" and of {len(files) - 1} more" if len(files) > 1 else ""
    return [f"columns of {files[0]}{more} have no names: taken for {shown(classes)}, in order"]


def class_indices(
    labels: NDArray[np.object_], classes: Sequence[str], where: str, ids: NDArray[np.object_]
) -> NDArray[np.int32]:
    """(N,) the index of every label, which is a class name or, where no name is, its number from
    0. Raises BlendError, with the id and the nearest class, for anything else."""
    index_of = {name: index for index, name in enumerate(classes)}
    distinct = set(labels)
    if not distinct <= set(index_of):
        numbers = {str(index): index for index in range(len(classes))}
        if not distinct <= set(numbers):
            row = next(row for row, label in enumerate(labels) if label not in index_of)
            nearest = get_close_matches(labels[row], classes, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise BlendError(
                f"{where}, id {ids[row]!r}: label {labels[row]!r} is none of the "
                f"{len(classes)} classes ({_some(classes)}){hint}"
            )
        index_of = numbers
    return np.array([index_of[label] for label in labels], np.int32)


def _rows_of(raw: RawPredictions, reference: Reference) -> tuple[NDArray[np.intp], str]:
    rows, unexpected = _matched(raw, reference.ids, reference.where, exact=raw.exact)
    if not unexpected:
        return rows, ""
    plural = "ids have" if len(unexpected) > 1 else "id has"
    return rows, f"{raw.where}: {len(unexpected)} {plural} no label ({_some(unexpected)}): left out"


def _matched(
    raw: RawPredictions, wanted: NDArray[np.object_], where: str, *, exact: bool
) -> tuple[NDArray[np.intp], list[str]]:
    """Where in `raw` the `wanted` rows are, and its other ids."""
    if len(raw.ids) == len(wanted) and bool(np.all(raw.ids == wanted)):
        return np.arange(len(wanted)), []
    row_of = {name: row for row, name in enumerate(raw.ids)}
    missing = [name for name in wanted if name not in row_of]
    known = set(wanted)
    unexpected = [name for name in raw.ids if name not in known]
    if missing or (exact and unexpected):
        problems = [f"{len(missing)} missing ({_some(missing)})"] if missing else []
        problems += [f"{len(unexpected)} unexpected ({_some(unexpected)})"] if unexpected else []
        raise BlendError(
            f"{raw.where}: expected the {len(wanted)} ids of {where}, got {len(raw.ids)}: "
            f"{'; '.join(problems)}{_zeros(missing, unexpected)}"
        )
    return np.array([row_of[name] for name in wanted], np.intp), unexpected


def _zeros(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    stripped = {name.lstrip("0") for name in unexpected}
    if missing and all(name.lstrip("0") in stripped for name in missing):
        return "; they differ in leading zeros only: write ids as text"
    return ""


def _check_labels(own: LabelTable, reference: Reference) -> None:
    """What a file says itself about its rows must be what the labels say."""
    own = own.settled(minus_one_is_class=MINUS_ONE in reference.classes)
    row_of = {name: row for row, name in enumerate(reference.ids)}
    rows = [
        (row, row_of[name])
        for row, name in enumerate(own.ids)
        if own.labels[row] and name in row_of
    ]
    if not rows:
        return
    mine, theirs = np.array(rows).T
    labels = class_indices(own.labels[mine], reference.classes, own.where, own.ids[mine])
    wrong = np.flatnonzero(labels != reference.labels[theirs])
    if len(wrong):
        first = wrong[0]
        raise BlendError(
            f"{own.where}, id {own.ids[mine[first]]!r}: expected label "
            f"{reference.classes[reference.labels[theirs[first]]]!r} as in {reference.where}, got "
            f"{reference.classes[labels[first]]!r} ({len(wrong)} rows differ)"
        )


def _probabilities(
    raw: RawPredictions, rows: NDArray[np.intp], classes: tuple[str, ...], normalise: bool
) -> tuple[NDArray[np.float32], str]:
    values = raw.values[np.ix_(rows, _columns(raw, classes))].astype(np.float32)
    ids = raw.ids[rows]
    finite = np.isfinite(values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise BlendError(
            f"{raw.where}, id {ids[row]!r}, class {classes[column]!r}: expected a probability, "
            f"got {values[row, column]}"
        )
    sums = values.sum(axis=1, dtype=np.float64)
    if len(values) and values.min() < -ROUNDING:
        row, column = np.argwhere(values < -ROUNDING)[0]
        raise BlendError(
            f"{raw.where}, id {ids[row]!r}, class {classes[column]!r}: expected a probability of "
            f"at least 0, got {values[row, column]:.6g} (the row sums to {sums[row]:.6g})"
            f"{_hint(values)}"
        )
    rough = np.abs(sums - 1.0) > ROUNDING
    off = np.flatnonzero(np.abs(sums - 1.0) > SUM_TOLERANCE)
    if not len(off):
        values[rough] /= sums[rough, None]
        return np.minimum(values, 1.0, out=values), ""
    if not normalise or sums.min() <= 0:
        row = off[0] if sums.min() > 0 else int(sums.argmin())
        raise BlendError(
            f"{raw.where}, id {ids[row]!r}: expected probabilities that sum to 1, got a sum of "
            f"{sums[row]:.6g} ({len(off)} rows are off by more than {SUM_TOLERANCE})"
            f"{_hint(values) or '; normalise rows to divide each by its sum'}"
        )
    values[rough] /= sums[rough, None]
    return np.minimum(values, 1.0, out=values), (
        f"{raw.where}: {len(off)} rows did not sum to 1 (first id {ids[off[0]]!r}, sum "
        f"{sums[off[0]]:.6g}): divided by their sum"
    )


def _hint(values: NDArray[np.float32]) -> str:
    if values.max() <= ROUNDING:
        totals = np.exp(values.astype(np.float64)).sum(axis=1)
        if bool(np.all(np.abs(totals - 1.0) < SUM_TOLERANCE)):
            return "; looks like log probabilities: apply exp"
    if values.min() < 0 or values.max() > 1 + ROUNDING:
        return "; looks like logits: apply softmax"
    return ""


def _columns(raw: RawPredictions, classes: tuple[str, ...]) -> NDArray[np.intp]:
    if raw.classes is None:
        if raw.values.shape[1] != len(classes):
            raise BlendError(
                f"{raw.where}: expected {len(classes)} columns of probabilities, one for each "
                f"class ({_some(classes)}), got {raw.values.shape[1]}"
            )
        return np.arange(len(classes))
    column_of = {name: column for column, name in enumerate(raw.classes)}
    wanted = set(classes)
    missing = [name for name in classes if name not in column_of]
    unexpected = [name for name in raw.classes if name not in wanted]
    if missing or unexpected:
        problems = [f"missing {_some(missing)}"] if missing else []
        problems += [f"unexpected {_some(unexpected)}"] if unexpected else []
        raise BlendError(
            f"{raw.where}: expected a column for each of {len(classes)} classes, got "
            f"{len(raw.classes)}: {'; '.join(problems)}"
        )
    return np.array([column_of[name] for name in classes], np.intp)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:EXAMPLES])
    return f"{shown}, …" if len(names) > EXAMPLES else shown
