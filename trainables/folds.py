"""Folds: which training row is held out when. Drawn once, written once, never redrawn."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.files import Location
from trainables.errors import DataError
from trainables.manifest import Manifest

if TYPE_CHECKING:
    from sklearn.model_selection import BaseCrossValidator

Kind: TypeAlias = Literal["auto", "stratified", "grouped", "stratified_grouped"]
Rows: TypeAlias = npt.NDArray[np.int64]

CLASSES_KEY = b"foldblend.classes"

_TEST_SCHEMA = pa.schema([("id", pa.string()), ("path", pa.string())])
_FOLD_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("label", pa.int32()),
        ("group", pa.string()),
        ("fold", pa.int16()),
    ]
)


@dataclass(frozen=True, eq=False)
class FoldTable:
    """What `folds.parquet` holds: N rows with labels (N,) int32 and folds (N,) int16 from 0."""

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    groups: tuple[str, ...] | None
    folds: npt.NDArray[np.int16]
    classes: tuple[str, ...]

    @property
    def k(self) -> int:
        return int(self.folds.max()) + 1

    def train_rows(self, fold: int) -> Rows:
        """Indices of the rows that a fold run of `fold` trains on, ascending."""
        return np.flatnonzero(self.folds != self._checked(fold))

    def validation_rows(self, fold: int) -> Rows:
        """Indices of the rows that a fold run of `fold` must never see in training, ascending."""
        return np.flatnonzero(self.folds == self._checked(fold))

    def _checked(self, fold: int) -> int:
        # Fold 9 of 5 would train on every row and predict none.
        if not 0 <= fold < self.k:
            raise ValueError(f"fold {fold} does not exist: there are folds 0 to {self.k - 1}")
        return fold


@dataclass(frozen=True)
class TestTable:
    """The images for which predictions are due, in the order in which they are due."""

    __test__: ClassVar[bool] = False  # the name is not an invitation to pytest

    ids: tuple[str, ...]
    paths: tuple[str, ...]


def resolve_kind(kind: Kind, groups: Sequence[str] | None) -> Kind:
    """`auto` made plain: stratified_grouped where there are groups, else stratified."""
    if kind == "auto":
        return "stratified" if groups is None else "stratified_grouped"
    if kind != "stratified" and groups is None:
        raise DataError(f"folds.kind={kind} needs groups; set data.group_column")
    return kind


def assign_folds(
    labels: npt.NDArray[np.integer],
    groups: Sequence[str] | None,
    *,
    k: int,
    kind: Kind,
    seed: int,
) -> npt.NDArray[np.int16]:
    """Each row's fold, (N,) int16 in 0..k-1, the same for the same seed.

    stratified: every fold holds each class in proportion. grouped: no group is split, and folds
    hold equal numbers of groups as far as they divide. stratified_grouped: no group is split, and
    classes are spread as evenly as the groups allow. `groups` is not used by stratified. Raises
    DataError when rows or groups do not suffice for k folds.
    """
    kind = resolve_kind(kind, groups)
    labels = np.asarray(labels)
    names = None if kind == "stratified" else np.asarray(groups, dtype=object)
    if names is not None and len(names) != len(labels):
        raise DataError(f"{len(labels)} labels but {len(names)} groups; give each row its group")
    _check_enough(labels, names, k)
    folds = np.full(len(labels), -1, dtype=np.int16)
    rows = np.zeros((len(labels), 1))
    try:
        for fold, (_, held_out) in enumerate(_splitter(kind, k, seed).split(rows, labels, names)):
            folds[held_out] = fold
    except ValueError as error:  # scikit-learn's own refusals
        raise DataError(f"no {k} {kind} folds can be drawn: {error}") from error
    empty = sorted(set(range(k)) - set(folds.tolist()))
    if empty:
        raise DataError(
            f"fold {empty[0]} of {k} got no group: some groups are too large to spread the classes "
            "evenly; set folds.kind=grouped or a smaller folds.k"
        )
    return folds


def _splitter(kind: Kind, k: int, seed: int) -> BaseCrossValidator:
    # Slow to import; every fold run's worker reads this module, and none of them draws folds.
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

    if kind == "stratified":
        return StratifiedKFold(k, shuffle=True, random_state=seed)
    if kind == "grouped":
        return GroupKFold(k, shuffle=True, random_state=seed)
    return StratifiedGroupKFold(k, shuffle=True, random_state=seed)


def _check_enough(
    labels: npt.NDArray[np.integer], groups: npt.NDArray[np.object_] | None, k: int
) -> None:
    if len(labels) and labels.min() < 0:
        row = int(np.argmin(labels))
        raise DataError(f"row {row} has no known label ({labels[row]}); check the data first")
    if groups is not None:
        found = len(set(groups.tolist()))
        if found < k:
            raise DataError(f"{found} groups cannot fill {k} folds; set folds.k={max(found, 2)}")
        return
    _, counts = np.unique(labels, return_counts=True)
    smallest = int(counts.min()) if len(counts) else 0
    if smallest < k:
        raise DataError(f"a class has {smallest} rows, fewer than {k} folds; set a smaller folds.k")


def write_folds(location: Location, manifest: Manifest, folds: npt.NDArray[np.int16]) -> None:
    """Write id, path, label, group (null where there are none) and fold of every training row.

    Raises DataError when the file is already there: a run's folds never change.
    """
    rows = len(manifest.ids)
    if len(folds) != rows:
        raise DataError(f"{rows} images but {len(folds)} folds; assign the folds again")
    columns = {
        "id": manifest.ids,
        "path": manifest.paths,
        "label": manifest.labels,
        "group": (None,) * rows if manifest.groups is None else manifest.groups,
        "fold": np.asarray(folds, dtype=np.int16),
    }
    metadata = {CLASSES_KEY: json.dumps(manifest.classes, ensure_ascii=False).encode()}
    _write_new(location, pa.table(columns, schema=_FOLD_SCHEMA.with_metadata(metadata)))


def read_folds(location: Location) -> FoldTable:
    """`folds.parquet` as a value; DataError when it is missing or not such a file."""
    table = _read(location, _FOLD_SCHEMA)
    metadata = table.schema.metadata or {}
    if CLASSES_KEY not in metadata:
        raise DataError(f"{location}: the class names ({CLASSES_KEY.decode()}) are not in the file")
    groups = table["group"]
    return FoldTable(
        ids=tuple(table["id"].to_pylist()),
        paths=tuple(table["path"].to_pylist()),
        labels=table["label"].to_numpy(),
        groups=None if groups.null_count == len(groups) else tuple(groups.to_pylist()),
        folds=table["fold"].to_numpy(),
        classes=tuple(json.loads(metadata[CLASSES_KEY])),
    )


def write_test(location: Location, manifest: Manifest) -> None:
    """Write id and path of every test image, in order. DataError when the file is there."""
    columns = {"id": manifest.test_ids, "path": manifest.test_paths}
    _write_new(location, pa.table(columns, schema=_TEST_SCHEMA))


def read_test_table(location: Location) -> TestTable:
    """The test table as a value; DataError when it is missing or not such a file."""
    table = _read(location, _TEST_SCHEMA)
    return TestTable(tuple(table["id"].to_pylist()), tuple(table["path"].to_pylist()))


def _write_new(location: Location, table: pa.Table) -> None:
    if location.exists():
        raise DataError(f"{location}: is already there and never overwritten; start a new run")
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    location.write_bytes(buffer.getvalue())


def _read(location: Location, schema: pa.Schema) -> pa.Table:
    if not location.exists():
        raise DataError(f"{location}: no such file; is this a run directory?")
    try:
        table = pq.read_table(io.BytesIO(location.read_bytes()))
    except pa.ArrowInvalid as error:
        raise DataError(f"{location}: not a Parquet file: {str(error).splitlines()[0]}") from error
    for field in schema:
        if (
            field.name not in table.column_names
            or table.schema.field(field.name).type != field.type
        ):
            raise DataError(f"{location}: expected a column {field.name} of type {field.type}")
    return table
