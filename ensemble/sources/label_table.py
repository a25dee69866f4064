"""Labels: which rows there are, what they are, and which fold held them out."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.columns import find_column, need_column
from ensemble.sources.options import GatherOptions
from ensemble.sources.tables import number_column, read_table, text_column
from ensemble.store_format import CLASSES_KEY

FOLDS_FILE = "folds.parquet"
MINUS_ONE = "-1"  # says "unknown" in many tables, and is a class in some
UNKNOWN = frozenset({"", MINUS_ONE})  # what no class is surely called


@dataclass(frozen=True, eq=False)
class LabelTable:
    """N rows with an id each, in order.

    where     the file, for messages
    labels    (N,) str, class name or number, "" where unknown; "-1" where the table says so, which
              the classes decide about (`settled`)
    folds     (N,) int64 or None
    groups    (N,) str, None where a row has none; or None
    weights   (N,) float64 or None
    classes   names in order, where the file says so
    """

    where: str
    ids: NDArray[np.object_]
    labels: NDArray[np.object_]
    folds: NDArray[np.int64] | None = None
    groups: NDArray[np.object_] | None = None
    weights: NDArray[np.float64] | None = None
    classes: tuple[str, ...] | None = None

    def settled(self, *, minus_one_is_class: bool) -> LabelTable:
        """The same, with "-1" unknown unless it is a class."""
        if minus_one_is_class or MINUS_ONE not in self.labels:
            return self
        return replace(self, labels=np.where(self.labels == MINUS_ONE, "", self.labels))

    def known(self) -> LabelTable:
        """Only the rows that have a label."""
        rows = np.flatnonzero(self.labels != "")
        return LabelTable(
            self.where,
            self.ids[rows],
            self.labels[rows],
            None if self.folds is None else self.folds[rows],
            None if self.groups is None else self.groups[rows],
            None if self.weights is None else self.weights[rows],
            self.classes,
        )


def read_label_table(where: Location, options: GatherOptions) -> LabelTable:
    """Read a CSV or Parquet file with id and label, and fold, group and weight where they are.
    Raises BlendError, naming the file, for a column that is missing and ids that are not unique."""
    table = read_table(where, options)
    try:
        need_column(table.column_names, "label", options)
        return label_table(str(where), table, options)
    except BlendError as error:
        raise BlendError(f"{where}: {error}") from error


def label_table(where: str, table: pa.Table, options: GatherOptions) -> LabelTable:
    """The labels of a table that may hold more; "" where it has no label column."""
    names = table.column_names
    ids = text_column(table, need_column(names, "id", options))
    check_unique(ids)
    label = find_column(names, "label", options)
    fold = find_column(names, "fold", options)
    group = find_column(names, "group", options)
    weight = find_column(names, "weight", options)
    classes = (table.schema.metadata or {}).get(CLASSES_KEY)
    found = tuple(map(str, json.loads(classes))) if classes else None
    labels = np.full(len(ids), "", dtype=object)
    if label is not None:
        labels = _named(text_column(table, label), found)
    return LabelTable(
        where,
        ids,
        labels,
        None if fold is None else _whole_numbers(text_column(table, fold), fold, ids),
        None if group is None else _groups(text_column(table, group)),
        None if weight is None else number_column(table, weight),
        found,
    )


def run_label_table(run: Location) -> LabelTable:
    """What `folds.parquet` of a run directory fixes."""
    return read_label_table(run / FOLDS_FILE, GatherOptions()).known()


def check_unique(ids: NDArray[np.object_]) -> None:
    """Raise BlendError unless every id is there, once."""
    if len(set(ids)) == len(ids) and "" not in ids:
        return
    if "" in ids:
        raise BlendError(f"row {ids.tolist().index('')}: expected an id, got nothing")
    twice = [name for name, times in Counter(ids).items() if times > 1]
    examples = ", ".join(map(repr, twice[:3]))
    raise BlendError(
        f"expected every id once, got {len(twice)} of them twice or more ({examples}"
        f"{', …' if len(twice) > 3 else ''})"
    )


def _named(labels: NDArray[np.object_], classes: tuple[str, ...] | None) -> NDArray[np.object_]:
    """Our own files number the classes that they name; no class is -1 there."""
    if classes is None:
        return labels
    names = dict(enumerate(classes))
    return np.array([names.get(int(label), "") if label else "" for label in labels], dtype=object)


def _whole_numbers(
    values: NDArray[np.object_], column: str, ids: NDArray[np.object_]
) -> NDArray[np.int64] | None:
    if not any(values):
        return None
    numbers = np.empty(len(values), np.int64)
    for row, value in enumerate(values):
        try:
            numbers[row] = int(value)
        except ValueError:
            raise BlendError(
                f"column {column!r}, id {ids[row]!r}: expected a fold number, got {value!r}"
            ) from None
    return numbers


def _groups(values: NDArray[np.object_]) -> NDArray[np.object_] | None:
    return np.array([value or None for value in values], dtype=object) if any(values) else None
