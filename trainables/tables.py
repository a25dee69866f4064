"""A user's table (CSV or Parquet) as text, and which of its columns is which."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence

import pandas as pd
import pyarrow as pa

from trainables.errors import DataError, nearest
from trainables.remote_files import address_of, fetch, is_remote

ID_NAMES = (
    *("id", "image_id", "image", "img", "filename", "file_name", "file", "path"),
    *("image_path", "img_path", "image_name", "img_name"),
)
LABEL_NAMES = ("target", "label", "class", "category", "y", "labels", "class_name", "class_id")
PARQUET_SUFFIXES = (".parquet", ".pq")
TABLE_SUFFIXES = (*PARQUET_SUFFIXES, ".csv", ".tsv", ".txt")


def read_table(path: str, key: str, *, parquet: bool | None = None) -> pd.DataFrame:
    """Every cell as text: "007" keeps its zeros, a class may be called "NA", no value is "".

    `path` may be a URI. `key` is the setting that named the file, for errors. `parquet`: None goes
    by the suffix. Raises DataError, one line, for a file that cannot be read as such a table or has
    no rows.
    """
    if not is_remote(path) and os.path.isdir(path):
        raise DataError(f"{key}={path}: is a folder, expected a CSV or Parquet file")
    if parquet is None:
        parquet = address_of(path).lower().endswith(PARQUET_SUFFIXES)
    frame = _read_parquet(path, key) if parquet else _read_csv(path, key)
    frame.columns = pd.Index([str(column).strip() for column in frame.columns])
    if not len(frame):
        raise DataError(f"{key}={path}: the table has no rows")
    return frame


def column_of(
    frame: pd.DataFrame, wanted: str | None, known: Sequence[str], key: str, where: str
) -> str | None:
    """The column the user named, else the first that bears a `known` name in any case, else None.

    Raises DataError when the named one does not exist. `key` is the setting, `where` the file.
    """
    columns = [str(column) for column in frame.columns]
    if wanted is not None:
        if wanted in columns:
            return wanted
        raise DataError(
            f"{key}={wanted}: no such column in {where} "
            f"(columns: {', '.join(columns)}){nearest(wanted, columns)}"
        )
    by_folded = {column.lower(): column for column in reversed(columns)}
    return next((by_folded[name] for name in known if name in by_folded), None)


def texts(frame: pd.DataFrame, column: str) -> tuple[str, ...]:
    """A column's cells, one str a row."""
    return tuple(str(cell) for cell in frame[column])


def _read_csv(path: str, key: str) -> pd.DataFrame:
    separator = "\t" if address_of(path).lower().endswith(".tsv") else ","
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                _content(path),
                sep=separator,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
            )
    except UnicodeDecodeError as error:
        raise DataError(f"{key}={path}: is not UTF-8 text; save the table as UTF-8") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{key}={path}: cannot be parsed as CSV: {reason}") from error
    except OSError as error:
        raise DataError(f"{key}={path}: cannot be read: {error.strerror}") from error
    if not isinstance(frame.index, pd.RangeIndex):
        # pandas takes surplus fields for row names and shifts every column by one.
        raise DataError(
            f"{key}={path}: cannot be parsed as CSV: rows have more fields than the header's "
            f"{len(frame.columns)}; quote values that hold a comma"
        )
    return frame.fillna("")


def _content(path: str) -> str | io.BytesIO:
    """What pandas is to read: a path, or an object's bytes. DataError where there is none."""
    return io.BytesIO(fetch(path)) if is_remote(path) else path


def _read_parquet(path: str, key: str) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(_content(path))
    except (OSError, pa.ArrowInvalid) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{key}={path}: cannot be read as Parquet: {reason}") from error
    # A named index is a column that pandas set aside when the file was written.
    frame = frame.reset_index() if any(frame.index.names) else frame.reset_index(drop=True)
    return pd.DataFrame({name: _as_text(frame[name]) for name in frame.columns})


def _as_text(cells: pd.Series) -> pd.Series:
    """Cells as text. Whole numbers that became floats because one is missing lose their ".0"."""
    missing = cells.isna()
    if pd.api.types.is_float_dtype(cells) and not (cells[~missing] % 1).any():
        cells = cells.astype("Int64")
    return cells.astype(object).where(~missing, "").map(str)
