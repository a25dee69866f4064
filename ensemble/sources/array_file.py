"""Probabilities in a `.npy` array; the ids of its rows stand in a table beside it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.label_table import LabelTable
from ensemble.sources.options import GatherOptions
from ensemble.sources.raw import RawPredictions
from ensemble.sources.table_file import read_ids
from ensemble.sources.tables import TABLE_SUFFIXES, need, parent_of

OOF_ID_STEMS = ("oof_ids", "train_ids", "ids")
TEST_ID_STEMS = ("test_ids",)


def read_array_file(
    where: Location,
    options: GatherOptions,
    labels: LabelTable | None = None,
    *,
    test: bool = False,
) -> RawPredictions:
    """Read `X.npy` (rows, classes). Its ids are those of the table of the same name (`X.csv`) or of
    `ids.csv` in its folder (`test_ids.csv` where `test`), or else the rows are those of `labels`
    in their order. Raises BlendError, naming the file, where none has as many rows."""
    values = _read_array(where)
    beside = ids_beside(where, test=test)
    if beside is not None:
        table = read_ids(beside, options)
        if len(table.ids) != len(values):
            raise BlendError(
                f"{where}: expected one row for each of the {len(table.ids)} ids of {beside.name}, "
                f"got {len(values)}"
            )
        known = table if any(table.labels) or table.folds is not None else None
        return RawPredictions(str(where), table.ids, values, None, known)
    if labels is None:
        stem = stem_of(where)
        others = TEST_ID_STEMS[0] if test else "ids"
        raise BlendError(
            f"{where}: no ids for its {len(values)} rows: put them into {stem}.csv or "
            f"{others}.csv beside it, one a row"
        )
    if len(labels.ids) != len(values):
        raise BlendError(
            f"{where}: expected one row for each of the {len(labels.ids)} rows of {labels.where}, "
            f"got {len(values)}; put the ids of its rows into {stem_of(where)}.csv"
        )
    note = f"{where}: has no ids, so its rows are taken to be those of {labels.where}, in order"
    return RawPredictions(str(where), labels.ids, values, None, notes=(note,))


def ids_beside(where: Location, *, test: bool = False) -> Location | None:
    """The table that holds the ids of the rows of an array, None where there is none."""
    folder = parent_of(where)
    shared = TEST_ID_STEMS if test else OOF_ID_STEMS
    if folder.name == ("test" if test else "oof"):
        found = _first(folder, (stem_of(where), *shared, "ids"))
        return found or _first(parent_of(folder), shared)
    return _first(folder, (stem_of(where), *shared))


def _first(folder: Location, stems: Sequence[str]) -> Location | None:
    by_name = {child.name: child for child in folder.list()}
    names = [f"{stem}{suffix}" for stem in stems for suffix in TABLE_SUFFIXES]
    return next((by_name[name] for name in names if name in by_name), None)


def stem_of(where: Location) -> str:
    """The name without its suffix."""
    return where.name.rpartition(".")[0] or where.name


def _read_array(where: Location) -> NDArray[np.floating]:
    try:
        values = np.load(io.BytesIO(need(where).read_bytes()), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, BlendError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BlendError(f"{where}: expected an array of numbers, got {reason}") from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiu":
        shape = getattr(values, "shape", type(values).__name__)
        raise BlendError(
            f"{where}: expected numbers of shape (rows, classes), got "
            f"{getattr(values, 'dtype', '')} {shape}"
        )
    return values if values.dtype.kind == "f" else values.astype(np.float32)
