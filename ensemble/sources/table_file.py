"""Probabilities in a table: one column a class, one list a row, or one row for image and class."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.columns import (
    class_columns,
    index_columns,
    need_column,
    role_columns,
    shown,
)
from ensemble.sources.label_table import UNKNOWN, LabelTable, check_unique, label_table
from ensemble.sources.options import GatherOptions
from ensemble.sources.raw import RawPredictions
from ensemble.sources.tables import (
    number_column,
    numeric_columns,
    read_table,
    text_column,
)
from ensemble.store_format import CLASSES_KEY

# In a table with a row for every image and class.
PROBABILITY_NAMES = ("probability", "proba", "prob", "p", "score", "confidence")
CLASS_NAMES = ("class", "class_name", "label", "category", "target")


def read_table_file(
    where: Location, options: GatherOptions, label_names: Collection[str] = ()
) -> RawPredictions:
    """Read a CSV or Parquet file of probabilities. `label_names`: the classes of the labels,
    where they are known already. Raises BlendError naming the file."""
    table = read_table(where, options)
    try:
        long = _long_columns(table, options)
        if long is not None:
            return _read_long(str(where), table, *long)
        labels = label_table(str(where), table, options)
        names = set(label_names) | set(labels.labels) - UNKNOWN
        values, classes = _probabilities(table, options, names)
    except BlendError as error:
        raise BlendError(f"{where}: {error}") from error
    known = labels if any(labels.labels) or labels.folds is not None else None
    return RawPredictions(str(where), labels.ids, values, classes, known)


def read_ids(where: Location, options: GatherOptions) -> LabelTable:
    """The ids, and the labels if there are any, of the rows of an array beside `where`."""
    table = read_table(where, options)
    try:
        index = index_columns(table.column_names)
        names = [name for name in table.column_names if name not in index] or table.column_names
        if len(names) == 1 and options.id_column is None:
            ids = text_column(table, names[0])
            check_unique(ids)
            return LabelTable(str(where), ids, np.full(len(ids), "", dtype=object))
        return label_table(str(where), table, options)
    except BlendError as error:
        raise BlendError(f"{where}: {error}") from error


def _probabilities(
    table: pa.Table, options: GatherOptions, label_names: Collection[str]
) -> tuple[NDArray[np.floating], tuple[str, ...] | None]:
    found = _list_column(table)
    if found is not None:
        return _read_lists(table, found)
    roles = role_columns(table.column_names, options)
    numeric = set(numeric_columns(table)) - roles
    others = [name for name in table.column_names if name not in roles]
    if "p_true" in others and len(numeric - index_columns(others)) == 1:
        raise BlendError(
            "only the true class's probability (p_true) is stored, which cannot be matched class "
            f"by class: give a table with every class's, got the columns {shown(others)}"
        )
    _refuse_text(table, [name for name in others if name in label_names and name not in numeric])
    chosen = class_columns(table.column_names, numeric, label_names)
    columns = [number_column(table, name).astype(np.float32) for name in chosen.columns]
    return np.stack(columns, axis=1), chosen.names


def _refuse_text(table: pa.Table, names: Sequence[str]) -> None:
    if names:
        raise BlendError(
            f"column {names[0]!r}: expected probabilities of that class, got "
            f"{table.schema.field(names[0]).type} such as {table[names[0]][0].as_py()!r}"
        )


def _list_column(table: pa.Table) -> str | None:
    types = pa.types
    for field in table.schema:
        kind = field.type
        listed = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
        if listed and types.is_floating(kind.value_type):
            return str(field.name)
    return None


def _read_lists(table: pa.Table, name: str) -> tuple[NDArray[np.floating], tuple[str, ...] | None]:
    column = table[name].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    width = len(flat) // max(len(column), 1)
    lengths = {len(row) if row.is_valid else 0 for row in column}
    if len(lengths) > 1 or column.null_count:
        raise BlendError(
            f"column {name!r}: expected as many probabilities in every row, got "
            f"{sorted(lengths)[:4]}"
        )
    text = (table.schema.metadata or {}).get(CLASSES_KEY)
    return flat.reshape(len(column), width), tuple(map(str, json.loads(text))) if text else None


def _long_columns(table: pa.Table, options: GatherOptions) -> tuple[str, str, str] | None:
    """Id, class and probability columns, of a table with a row for every image and class."""
    lower = {name.lower(): name for name in reversed(table.column_names)}
    value = next((lower[name] for name in PROBABILITY_NAMES if name in lower), None)
    kind = next((lower[name] for name in CLASS_NAMES if name in lower), None)
    if value is None or kind is None or value not in numeric_columns(table):
        return None
    known = role_columns(table.column_names, options) | index_columns(table.column_names) | {value}
    beside = set(numeric_columns(table)) - known
    ids = text_column(table, need_column(table.column_names, "id", options))
    if beside or len(set(ids)) == len(ids):
        return None
    return need_column(table.column_names, "id", options), kind, value


def _read_long(where: str, table: pa.Table, id_: str, kind: str, value: str) -> RawPredictions:
    ids, row = _numbered(text_column(table, id_))
    classes, column = _numbered(text_column(table, kind))
    cell = row * len(classes) + column
    times = np.bincount(cell, minlength=len(ids) * len(classes))
    if times.min() != 1 or times.max() != 1:
        wrong = int(np.flatnonzero(times != 1)[0])
        raise BlendError(
            f"id {ids[wrong // len(classes)]!r}, class {classes[wrong % len(classes)]!r}: expected "
            f"one probability for every id and class, got {times[wrong]}"
        )
    values = np.empty(len(cell), np.float32)
    values[cell] = number_column(table, value)
    names = tuple(str(name) for name in classes)
    by_index = sorted(names) == sorted(map(str, range(len(names))))
    shaped = values.reshape(len(ids), len(classes))
    if by_index:
        order = np.argsort([int(name) for name in names])
        return RawPredictions(where, ids, shaped[:, order], None)
    return RawPredictions(where, ids, shaped, names)


def _numbered(values: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """The distinct values in order of appearance, and which of them each one is."""
    number = {value: i for i, value in enumerate(dict.fromkeys(values.tolist()))}
    return np.array(list(number), dtype=object), np.array([number[v] for v in values], np.int64)
