"""The tables of an analysis: their names and columns, which a page and other programs read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.analysis.agreement import agreement
from ensemble.analysis.best_member import best_member
from ensemble.analysis.confusion import confused_pairs, confusion
from ensemble.analysis.decisions import Decisions, decisions_of
from ensemble.analysis.fold_scores import fold_scores
from ensemble.analysis.inputs import Analysed, Columns, Progress
from ensemble.analysis.member_table import members
from ensemble.analysis.mergeable import mergeable
from ensemble.analysis.per_class import per_class
from ensemble.analysis.reliability_table import reliability
from ensemble.analysis.row_table import rows
from ensemble.analysis.suspects import suspects
from ensemble.errors import BlendError
from ensemble.files import Location

FOLDER = "analysis"  # in the run directory
DUPLICATES = "duplicates"  # needs the images, so it may be missing
BEFORE_CALIBRATION = "reliability_before"  # of the blend; made where it is fitted
OPTIONAL = (DUPLICATES, BEFORE_CALIBRATION)

_TYPES = {"text": pa.string(), "count": pa.int64(), "real": pa.float64(), "flag": pa.bool_()}


def _schema(**columns: str) -> pa.Schema:
    """Columns by kind; one that ends in "?" may be null. `class_` stands for `class`."""
    return pa.schema(
        [
            pa.field(name.rstrip("_"), _TYPES[kind.rstrip("?")], nullable=kind.endswith("?"))
            for name, kind in columns.items()
        ]
    )


_RELIABILITY = _schema(
    model="text",
    bin="count",
    low="real",
    high="real",
    confidence="real?",
    accuracy="real?",
    rows="count",
)
SCHEMAS: Mapping[str, pa.Schema] = MappingProxyType(
    {
        "per_class": _schema(
            model="text", class_="text", rows="count", recall="real?", precision="real?", f1="real?"
        ),
        "confused_pairs": _schema(
            model="text",
            true_class="text",
            predicted_class="text",
            count="count",
            share="real",
            mean_probability="real",
        ),
        "confusion": _schema(true_class="text", predicted_class="text", count="count"),
        "best_member": _schema(
            class_="text",
            member="text",
            recall="real",
            blend_recall="real",
            f1="real",
            blend_f1="real",
            gain="real",
        ),
        "agreement": _schema(
            member_a="text",
            member_b="text",
            agreement="real",
            error_correlation="real?",
            both_wrong="real",
            same_wrong="real",
            loss_correlation="real?",
        ),
        "members": _schema(
            name="text",
            weight="real",
            log_loss="real",
            accuracy="real",
            macro_f1="real",
            ece="real",
            only_right="real",
            decided_alone="real",
        ),
        "suspects": _schema(
            rank="count",
            id="text",
            label="text",
            suggested="text",
            p_label="real",
            p_suggested="real",
            margin="real",
            members_wrong="count",
            members="count",
            all_wrong="flag",
            confident_learning="flag",
        ),
        "mergeable": _schema(
            class_a="text",
            class_b="text",
            rows_a="count",
            rows_b="count",
            a_as_b="real",
            b_as_a="real",
            mutual="real",
            auc="real?",
        ),
        "reliability": _RELIABILITY,
        BEFORE_CALIBRATION: _RELIABILITY,
        "fold_scores": _schema(
            model="text",
            fold="count",
            rows="count",
            log_loss="real",
            accuracy="real",
            macro_f1="real",
        ),
        "rows": _schema(
            id="text",
            label="text",
            fold="count",
            blend_class="text",
            p_label="real",
            p_blend_class="real",
            correct="flag",
            members_right="count",
        ),
        DUPLICATES: _schema(
            id_a="text",
            id_b="text",
            label_a="text",
            label_b="text",
            distance="count",
            same_label="flag",
        ),
    }
)
_MAKERS: Mapping[str, Callable[[Analysed, Decisions], Columns]] = MappingProxyType(
    {
        "per_class": per_class,
        "confused_pairs": confused_pairs,
        "confusion": confusion,
        "best_member": best_member,
        "agreement": agreement,
        "members": members,
        "suspects": suspects,
        "mergeable": mergeable,
        "reliability": reliability,
        "fold_scores": fold_scores,
        "rows": rows,
    }
)
TABLES: tuple[str, ...] = tuple(_MAKERS)  # what `analyse` returns


def analyse(given: Analysed, *, progress: Progress | None = None) -> dict[str, pa.Table]:
    """Every table of `TABLES` by name. Members are read one at a time; what stays in memory is 12
    bytes a row and member and, for `agreement`, 16 more. Raises BlendError naming a member whose
    probabilities do not fit."""
    decisions = decisions_of(given, progress=progress)
    made = {}
    for name, make in _MAKERS.items():
        if progress is not None:
            progress(f"analysis: {name}")
        made[name] = as_table(name, make(given, decisions))
    return made


def as_table(name: str, columns: Columns) -> pa.Table:
    """Columns as the table of that name; NaN becomes null. Raises BlendError on other columns
    than the contract's, or a null where none may be."""
    schema = SCHEMAS[name]
    if list(columns) != schema.names:
        raise BlendError(f"table {name}: expected columns {schema.names}, got {list(columns)}")
    arrays = [_array(columns[field.name], field.type) for field in schema]
    for field, array in zip(schema, arrays, strict=True):
        if array.null_count and not field.nullable:
            raise BlendError(
                f"table {name}, column {field.name!r}: expected a value in every row, got a null"
            )
    return pa.table(arrays, schema=schema)


def write_analysis(location: Location, tables: Mapping[str, pa.Table]) -> None:
    """Write `<name>.parquet` for each table into the folder `location` (a run's `analysis`).
    Raises BlendError, before anything is written, for a table that is not in the contract."""
    for name, table in tables.items():
        if name not in SCHEMAS:
            raise BlendError(f"unknown table {name!r}, expected one of {', '.join(SCHEMAS)}")
        if not table.schema.equals(SCHEMAS[name]):
            raise BlendError(f"table {name}: expected {SCHEMAS[name]!r}, got {table.schema!r}")
    for name, table in tables.items():
        out = BytesIO()
        pq.write_table(table, out, compression="zstd")
        (location / f"{name}.parquet").write_bytes(out.getvalue())


def read_analysis(location: Location) -> dict[str, pa.Table]:
    """The tables of the folder `location`: all of `TABLES`, and those of `OPTIONAL` that were made.
    Raises BlendError naming the file that is missing, damaged or has other columns."""
    found = {}
    for name in SCHEMAS:
        where = location / f"{name}.parquet"
        try:
            found[name] = _read(where, SCHEMAS[name])
        except FileNotFoundError:
            if name not in OPTIONAL:
                raise BlendError(f"{where}: no such table; analyse the run again") from None
    return found


def _read(where: Location, schema: pa.Schema) -> pa.Table:
    data = where.read_bytes()
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BlendError(f"{where}: not a Parquet file: {error}; analyse the run again") from error
    if not table.schema.equals(schema):
        raise BlendError(
            f"{where}: expected columns {schema.names}, got {table.schema.names}; "
            "analyse the run again"
        )
    return table


def _array(values: object, kind: pa.DataType) -> pa.Array:
    if pa.types.is_floating(kind):
        return pa.array(np.asarray(values, dtype=np.float64), kind, from_pandas=True)
    if pa.types.is_integer(kind):
        return pa.array(np.asarray(values).astype(np.int64), kind)
    return pa.array(values, kind)
