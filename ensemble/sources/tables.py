"""CSV and Parquet files of other programs as Arrow tables; ids, labels and groups as text."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.columns import role_columns
from ensemble.sources.options import GatherOptions

CSV_SUFFIXES = (".csv", ".tsv", ".txt")
PARQUET_SUFFIXES = (".parquet", ".pq")
TABLE_SUFFIXES = (*CSV_SUFFIXES, *PARQUET_SUFFIXES)
DELIMITERS = ",;\t"
WHOLE_NUMBER = re.compile(r"-?\d+\.0+")


def need(where: Location) -> Location:
    """`where`, if something is there. Raises BlendError with the nearest name that is."""
    if where.exists():
        return where
    try:
        beside = [child.name for child in parent_of(where).list()]
    except (OSError, ValueError):
        beside = []
    nearest = get_close_matches(where.name, beside, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise BlendError(f"{where}: no such file or folder{hint}")


def parent_of(where: Location) -> Location:
    """The folder that a file or folder lies in."""
    address, mark, query = (where.uri, "", "") if where.is_local else where.uri.partition("?")
    return Location((address.rpartition("/")[0] or "/") + mark + query)


def read_table(where: Location, options: GatherOptions) -> pa.Table:
    """The whole table. In CSV, which has no types, the columns of ids, labels, folds and groups
    are read as text, so that `007` stays `007`. Raises BlendError naming the file."""
    data = need(where).read_bytes()
    try:
        if where.name.lower().endswith(PARQUET_SUFFIXES):
            table = pq.read_table(pa.BufferReader(data))
        else:
            table = _read_csv(data, options)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BlendError(f"{where}: expected a CSV or Parquet table, got {reason}") from error
    twice = [name for name, times in Counter(table.column_names).items() if times > 1]
    if twice:
        raise BlendError(f"{where}: expected every column once, got {twice[0]!r} twice")
    return table


def text_column(table: pa.Table, name: str) -> NDArray[np.object_]:
    """(N,) of str, "" for null. Whole numbers are written without a point: a column of ids that
    went through floats (`1.0`) names the same rows as before (`1`)."""
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = ["" if value is None else str(value) for value in column.to_pylist()]
    filled = [value for value in values if value]
    if filled and all(map(WHOLE_NUMBER.fullmatch, filled)):
        values = [value.partition(".")[0] for value in values]
    return np.array(values, dtype=object)


def number_column(table: pa.Table, name: str) -> NDArray[np.float64]:
    """(N,) float64, NaN for null. Raises BlendError where something is no number."""
    try:
        column = table[name].cast(pa.float64()).combine_chunks()
    except pa.ArrowException as error:
        raise BlendError(f"column {name!r}: expected numbers, got {error}") from error
    return column.to_numpy(zero_copy_only=False)


def numeric_columns(table: pa.Table) -> list[str]:
    """The columns of numbers, or of nothing."""
    return [field.name for field in table.schema if _is_number(field.type)]


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_floating(kind)
        or types.is_integer(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    )


def _read_csv(data: bytes, options: GatherOptions) -> pa.Table:
    header = data[: data.find(b"\n") + 1 or len(data)].decode("utf-8-sig").strip("\r\n")
    delimiter = max(DELIMITERS, key=header.count)
    names = next(csv.reader(io.StringIO(header), delimiter=delimiter), [])
    return pa_csv.read_csv(
        pa.BufferReader(data),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(role_columns(names, options), pa.string()),
            strings_can_be_null=False,
        ),
    )
