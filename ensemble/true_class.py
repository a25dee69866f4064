"""Each member's probability of the true class, and nothing else, from the OOF store.

Log loss of a weighted mean needs one number a row and member, whatever the number of classes. Which
rows these are is checked for every file: by decoding ids, labels and folds, or by finding them in
the same bytes as in a file that was decoded and found right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.key_bytes import KeyBytes
from ensemble.predictions import UNKNOWN_LABEL
from ensemble.store import OofStore
from ensemble.store_format import (
    CLASSES_KEY,
    CONFIG_ID_KEY,
    KEY_COLUMNS,
    TRUE_CLASS_COLUMNS,
    VERSION_KEY,
    check_columns,
    check_no_null,
    check_p_true,
    check_version,
    damaged,
    encode_true_class,
)

__all__ = ["encode_true_class", "read_true_class"]

REMOTE_AT_ONCE = 16  # members: an object store answers in tens of milliseconds, but to many
EXAMPLES = 3  # how many ids an error shows
FOLDS_FILE = "folds.parquet"


def read_true_class(
    store: OofStore,
    config_ids: Sequence[str],
    ids: NDArray[np.object_],
    labels: NDArray[np.integer],
    folds: NDArray[np.integer],
) -> NDArray[np.float32]:
    """(M, N) float32: the probability of the true class of every member (M, as `config_ids`) and
    row (N, as `ids`, `labels` and `folds`, which are those of `folds.parquet`); NaN where the
    label is -1 (unknown). Reads no other probabilities: the column `proba` may be missing.

    Raises BlendError, naming the file and the id, where a stored fold is missing or is one too
    many, rows are missing, twice or of another fold, labels differ, or a probability is null, NaN
    or outside 0 to 1.
    """
    expected = _expected_folds(ids, labels, folds)
    matrix = np.full((len(config_ids), len(ids)), np.nan, np.float32)
    reader = _Reader(store, expected)
    jobs = list(zip(config_ids, matrix, strict=True))
    if store.run.is_local:
        for job in jobs:
            reader.read_member(*job)
        return matrix
    with ThreadPoolExecutor(REMOTE_AT_ONCE) as pool:
        try:
            for _ in pool.map(lambda job: reader.read_member(*job), jobs):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return matrix


Rows = NDArray[np.intp] | slice  # a slice where rows follow each other: copying is faster


@dataclass(frozen=True, eq=False)
class _Fold:
    """What `folds.parquet` says about one fold: its rows (n,) there, their ids and labels."""

    number: int
    rows: NDArray[np.intp]
    ids: pa.Array
    labels: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class _Order:
    """Where the rows (n,) of a file belong: `rows` of the matrix. Their ids, and which of them
    have no label (None: every one has)."""

    rows: Rows
    ids: pa.Array
    unknown: NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class _Reader:
    """Fills one row of the matrix after the other. May be shared by threads: what it remembers
    only saves work."""

    store: OofStore
    expected: Mapping[int, _Fold]
    checked: dict[int, tuple[KeyBytes, _Order]] = field(default_factory=dict)
    classes: dict[bytes, tuple[object, str]] = field(default_factory=dict)

    def read_member(self, config_id: str, out: NDArray[np.float32]) -> None:
        """All folds of one member into `out` (N,)."""
        locations = self.store.locations("oof", config_id)
        _check_stored_folds(self.store, config_id, [fold for fold, _ in locations], self.expected)
        for fold, where in locations:
            try:
                self._read_file(config_id, where, self.expected[fold], out)
            except BlendError as error:
                raise BlendError(f"{where}: {error}") from error

    def _read_file(
        self, config_id: str, where: Location, fold: _Fold, out: NDArray[np.float32]
    ) -> None:
        with _opened(where) as (source, file):
            self._check_metadata(config_id, file.metadata.metadata or {})
            keys, order = self.checked.get(fold.number, (None, None))
            if keys is not None and order is not None and keys.are_in(source, file):
                column = file.read(columns=["p_true"], use_threads=False)["p_true"]
            else:
                check_columns(file.schema_arrow, 1, TRUE_CLASS_COLUMNS)
                table = file.read(columns=list(TRUE_CLASS_COLUMNS), use_threads=False)
                order, column = _checked_order(table, fold), table["p_true"]
                if where.is_local:  # over a network, one request for all columns beats two
                    self.checked[fold.number] = (KeyBytes.of(source, file), order)
        out[order.rows] = _values(column, order)

    def _check_metadata(self, config_id: str, items: Mapping[bytes, bytes]) -> None:
        check_version(items.get(VERSION_KEY))
        found = items.get(CONFIG_ID_KEY, b"").decode()
        if found != config_id:
            raise BlendError(f"expected predictions of {config_id}, got those of {found}")
        text = items.get(CLASSES_KEY, b"")
        if text in self.classes:
            return
        for names, of in tuple(self.classes.values())[:1]:
            if _names(text) != names:
                raise BlendError(f"expected the classes of configuration {of}, got others")
        self.classes[text] = (_names(text), config_id)


def _expected_folds(
    ids: NDArray[np.object_], labels: NDArray[np.integer], folds: NDArray[np.integer]
) -> dict[int, _Fold]:
    if not (len(ids) == len(labels) == len(folds)):
        raise BlendError(
            f"{FOLDS_FILE}: expected as many ids, labels and folds, "
            f"got {len(ids)}, {len(labels)} and {len(folds)}"
        )
    try:
        names = pa.array(ids, pa.string())
    except (pa.ArrowException, TypeError) as error:
        raise BlendError(f"{FOLDS_FILE}: expected ids as text, got others ({error})") from error
    if names.null_count or len(set(ids)) < len(ids):
        raise BlendError(f"{FOLDS_FILE}: expected every id once, got one twice or none at all")
    found = {}
    for number in np.unique(folds).tolist():
        rows = np.flatnonzero(folds == number)
        found[number] = _Fold(
            number, rows, names.take(pa.array(rows)), labels[rows].astype(np.int32)
        )
    return found


def _check_stored_folds(
    store: OofStore, config_id: str, stored: Sequence[int], expected: Mapping[int, _Fold]
) -> None:
    missing = sorted(set(expected) - set(stored))
    if missing:
        raise BlendError(
            f"{store.fold_location('oof', config_id, missing[0])}: not stored, and {FOLDS_FILE} "
            f"has {len(expected[missing[0]].rows)} rows of fold {missing[0]}"
        )
    beyond = sorted(set(stored) - set(expected))
    if beyond:
        raise BlendError(
            f"{store.fold_location('oof', config_id, beyond[0])}: {FOLDS_FILE} has no row of "
            f"fold {beyond[0]}"
        )


@contextmanager
def _opened(where: Location) -> Iterator[tuple[pa.NativeFile, pq.ParquetFile]]:
    """The open file and its footer. What pyarrow cannot read is a BlendError."""
    # Not memory-mapped: for a few hundred kilobytes, mapping costs more than it saves.
    source = pa.OSFile(where.uri) if where.is_local else where.open_input()
    with source:
        try:
            # Parallel reading and read-ahead pay over a network; here they cost 0.1 ms a file.
            yield (
                source,
                pq.ParquetFile(
                    source, page_checksum_verification=True, pre_buffer=not where.is_local
                ),
            )
        except BlendError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged(error) from error


def _checked_order(table: pa.Table, fold: _Fold) -> _Order:
    """BlendError unless the rows of a file are exactly those of `fold`."""
    check_no_null(table, KEY_COLUMNS)
    ids = table["id"].cast(pa.string()).combine_chunks()
    order = slice(None) if ids.equals(fold.ids) else _positions(ids, fold)
    wrong = np.flatnonzero(table["fold"].to_numpy() != fold.number)
    _refuse_other(ids, wrong, "fold", fold.number, table)
    labels = fold.labels[order]
    wrong = np.flatnonzero(table["label"].to_numpy() != labels)
    _refuse_other(ids, wrong, "label", labels[wrong[0]] if len(wrong) else 0, table)
    unknown = labels == UNKNOWN_LABEL
    return _Order(
        _as_slice(fold.rows[order]),
        ids if isinstance(order, np.ndarray) else fold.ids,
        unknown if unknown.any() else None,
    )


def _as_slice(rows: NDArray[np.intp]) -> Rows:
    if len(rows) and bool(np.all(np.diff(rows) == 1)):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _refuse_other(
    ids: pa.Array, wrong: NDArray[np.intp], column: str, wanted: int, table: pa.Table
) -> None:
    if len(wrong):
        row = int(wrong[0])
        raise BlendError(
            f"id {ids[row].as_py()!r}: expected {column} {wanted} as in {FOLDS_FILE}, "
            f"got {table[column][row].as_py()} ({len(wrong)} rows differ)"
        )


def _positions(ids: pa.Array, fold: _Fold) -> NDArray[np.intp]:
    """(n,): which row of `fold` each of `ids` is. BlendError unless they are its own, each once."""
    found = pc.index_in(ids, value_set=fold.ids)
    places = found.fill_null(-1).to_numpy()
    times = np.bincount(places[places >= 0], minlength=len(fold.ids))
    problems = [
        _listed(ids.filter(found.is_null()), "of no row or another fold's"),
        _listed(fold.ids.filter(pa.array(times == 0)), "missing"),
        _listed(fold.ids.filter(pa.array(times > 1)), "twice or more"),
    ]
    if any(problems):
        raise BlendError(
            f"expected the {len(fold.ids)} ids of fold {fold.number} in {FOLDS_FILE}, "
            f"got {len(ids)}: {'; '.join(filter(None, problems))}"
        )
    return places.astype(np.intp)


def _listed(ids: pa.Array, word: str) -> str:
    shown = ", ".join(repr(name) for name in ids[:EXAMPLES].to_pylist())
    return f"{len(ids)} {word} ({shown}{', …' if len(ids) > EXAMPLES else ''})" if len(ids) else ""


def _values(column: pa.ChunkedArray, order: _Order) -> NDArray[np.float32]:
    """(n,) probabilities from 0 to 1, NaN where the label is unknown."""
    values = column.to_numpy()  # a null becomes NaN
    if order.unknown is not None:
        values = np.where(order.unknown, np.float32(0), values)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        check_p_true(values, order.ids)
        values = np.clip(values, 0, 1)
    return values if order.unknown is None else np.where(order.unknown, np.float32(np.nan), values)


def _names(text: bytes) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BlendError(f"expected JSON in the foldblend metadata, got {error}") from error
