"""Predictions as the file that a contest asks for."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError, nearest

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class SubmissionFormat:
    """Column names in file order. `label`: the id column and one of label values; `probabilities`:
    the id column and one per class, named by class name or label value, in any order."""

    columns: tuple[str, ...]
    kind: Literal["label", "probabilities"]
    id_column: str


def submission_format(
    columns: Sequence[str],
    id_column: str,
    classes: Sequence[str],
    label_values: Sequence[str],
    where: str,
) -> SubmissionFormat:
    """The format that a sample submission's columns ask for; `where` names the file in errors.

    Two columns are an id and a label, 1 + C an id and a probability for each class. Raises
    DataError for anything else.
    """
    others = [column for column in columns if column != id_column]
    if len(others) == 1:
        return SubmissionFormat(tuple(columns), "label", id_column)
    if len(others) != len(classes):
        raise DataError(
            f"{where}: expected 2 columns (id, label) or {1 + len(classes)} "
            f"(id and one per class), got {len(columns)}: {_listed(columns)}"
        )
    form = SubmissionFormat(tuple(columns), "probabilities", id_column)
    class_order(form, classes, label_values, where)
    return form


def class_order(
    form: SubmissionFormat, classes: Sequence[str], label_values: Sequence[str], where: str
) -> dict[str, int]:
    """Column name to class index of a probability format, each class exactly once; else
    DataError. Class names are tried first, then label values."""
    columns = [column for column in form.columns if column != form.id_column]
    for names in (classes, label_values):
        if sorted(names) == sorted(columns):
            return {name: index for index, name in enumerate(names)}
    strange = [column for column in columns if column not in {*classes, *label_values}]
    odd = strange[0] if strange else columns[0]
    raise DataError(
        f"{where}: the probability columns must be the {len(classes)} class names or label "
        f"values, each once; column {odd} is not one{nearest(odd, (*classes, *label_values))}"
    )


def write_submission(
    path: str | Path,
    form: SubmissionFormat,
    ids: Sequence[str],
    proba: Floats,
    *,
    classes: Sequence[str],
    label_values: Sequence[str],
) -> None:
    """Write one row per id, in the order given, whole or not at all.

    proba: (N, C), finite. A label is `label_values` at the row's largest probability (the first of
    equal ones), written as the label column holds it; probabilities have 9 digits, enough for
    float32. Raises DataError when ids, probabilities and classes do not fit each other.
    """
    path = Path(path)
    if proba.shape != (len(ids), len(classes)):
        raise DataError(
            f"{path}: {len(ids)} ids and {len(classes)} classes need probabilities of shape "
            f"{(len(ids), len(classes))}, got {proba.shape}; predict the test set again"
        )
    if not np.isfinite(proba).all():
        row = int(np.argwhere(~np.isfinite(proba))[0, 0])
        raise DataError(f"{path}: the probabilities of {ids[row]} are not finite; predict it again")
    cells = _cells(form, ids, proba, classes, label_values, str(path))
    rows = zip(*(cells[column] for column in form.columns), strict=True)
    _write_csv(path, [form.columns, *rows])


def _cells(
    form: SubmissionFormat,
    ids: Sequence[str],
    proba: Floats,
    classes: Sequence[str],
    label_values: Sequence[str],
    where: str,
) -> dict[str, Sequence[str]]:
    """Each column's cells as text."""
    cells: dict[str, Sequence[str]] = {form.id_column: ids}
    if form.kind == "label":
        (column,) = (name for name in form.columns if name != form.id_column)
        winners = proba.argmax(axis=1) if len(ids) else np.empty(0, dtype=np.intp)
        cells[column] = [label_values[int(winner)] for winner in winners]
        return cells
    for column, index in class_order(form, classes, label_values, where).items():
        cells[column] = [f"{value:.9g}" for value in proba[:, index].tolist()]
    return cells


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Written beside its place and renamed into it: present means complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the file from a shared group
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:8])
    return f"{shown}, …" if len(columns) > 8 else shown
