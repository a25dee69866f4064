from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ensemble.files import Location
from trainables.errors import DataError
from trainables.folds import (
    FoldTable,
    assign_folds,
    read_folds,
    read_test_table,
    resolve_kind,
    write_folds,
    write_test,
)
from trainables.manifest import Manifest

COUNTS = st.lists(st.integers(min_value=5, max_value=20), min_size=2, max_size=5)
KS = st.integers(min_value=2, max_value=5)
SEEDS = st.integers(min_value=0, max_value=2**31 - 1)
GROUPED = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 11)), min_size=20, max_size=60
)  # (label, group) rows


def labels_of(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts).astype(np.int32)


def table_of(labels: np.ndarray, groups: tuple[str, ...] | None, folds: np.ndarray) -> FoldTable:
    names = tuple(str(row) for row in range(len(labels)))
    return FoldTable(names, names, labels, groups, folds, ("a", "b", "c", "d", "e"))


@settings(deadline=None, max_examples=40)
@given(COUNTS, KS, SEEDS)
def test_every_row_is_held_out_once_and_every_fold_has_every_class(
    counts: list[int], k: int, seed: int
) -> None:
    labels = labels_of(counts)
    folds = assign_folds(labels, None, k=k, kind="stratified", seed=seed)
    assert folds.dtype == np.int16
    assert folds.shape == labels.shape
    for fold in range(k):
        assert set(labels[folds == fold].tolist()) == set(range(len(counts)))
    table = table_of(labels, None, folds)
    held_out = np.concatenate([table.validation_rows(fold) for fold in range(k)])
    assert sorted(held_out.tolist()) == list(range(len(labels)))
    for fold in range(k):
        train, held = (
            set(table.train_rows(fold).tolist()),
            set(table.validation_rows(fold).tolist()),
        )
        assert not train & held
        assert len(train | held) == len(labels)


def drawn(
    labels: np.ndarray, groups: tuple[str, ...], k: int, kind: str, seed: int
) -> np.ndarray | None:
    """None where stratification leaves a fold without a group, which is an error of its own."""
    try:
        return assign_folds(labels, groups, k=k, kind=kind, seed=seed)
    except DataError as error:
        if kind == "stratified_grouped" and "got no group" in str(error):
            return None
        raise


@settings(deadline=None, max_examples=60)
@given(GROUPED, KS, SEEDS, st.sampled_from(["grouped", "stratified_grouped"]))
def test_no_group_is_in_training_and_validation(
    rows: list[tuple[int, int]], k: int, seed: int, kind: str
) -> None:
    labels = np.array([label for label, _ in rows], np.int32)
    groups = tuple(f"g{group}" for _, group in rows)
    assume(len(set(groups)) >= k)
    folds = drawn(labels, groups, k, kind, seed)
    assume(folds is not None)
    assert sorted(set(folds.tolist())) == list(range(k))
    table = table_of(labels, groups, folds)
    for fold in range(k):
        train = {groups[row] for row in table.train_rows(fold)}
        held = {groups[row] for row in table.validation_rows(fold)}
        assert held
        assert not train & held


@pytest.mark.parametrize("kind", ["stratified", "grouped", "stratified_grouped"])
def test_the_seed_alone_decides(kind: str) -> None:
    labels = labels_of([30, 30])
    groups = [f"g{row // 3}" for row in range(60)]
    first = assign_folds(labels, groups, k=5, kind=kind, seed=1)
    np.testing.assert_array_equal(first, assign_folds(labels, groups, k=5, kind=kind, seed=1))
    assert (first != assign_folds(labels, groups, k=5, kind=kind, seed=2)).any()


def test_groups_of_one_class_are_spread_over_all_folds() -> None:
    labels = labels_of([30, 30])
    groups = [f"g{row // 3}" for row in range(60)]
    folds = assign_folds(labels, groups, k=5, kind="auto", seed=0)
    for fold in range(5):
        assert np.bincount(labels[folds == fold]).tolist() == [6, 6]


def test_auto_is_grouped_exactly_where_there_are_groups() -> None:
    assert resolve_kind("auto", None) == "stratified"
    assert resolve_kind("auto", ("g",)) == "stratified_grouped"
    with pytest.raises(DataError, match=r"needs groups; set data.group_column"):
        resolve_kind("grouped", None)


def test_too_few_rows_or_groups_are_named() -> None:
    labels = labels_of([10, 3])
    with pytest.raises(DataError, match="a class has 3 rows, fewer than 5 folds"):
        assign_folds(labels, None, k=5, kind="auto", seed=0)
    with pytest.raises(DataError, match=r"3 groups cannot fill 5 folds; set folds\.k=3"):
        assign_folds(labels, ["a", "b", "c"] * 4 + ["a"], k=5, kind="auto", seed=0)
    with pytest.raises(DataError, match="13 labels but 2 groups"):
        assign_folds(labels, ["a", "b"], k=2, kind="auto", seed=0)
    with pytest.raises(DataError, match="row 1 has no known label"):
        assign_folds(np.array([0, -1]), None, k=2, kind="auto", seed=0)


def test_a_fold_that_stratification_leaves_empty_is_an_error_and_grouped_is_the_way_out() -> None:
    labels = np.array([0, 1, 1, 1, 1, 1, 0, 2, 2, 2, 0, 1])
    groups = ["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d"] * 2
    with pytest.raises(DataError, match=r"fold 2 of 4 got no group.*set folds\.kind=grouped"):
        assign_folds(labels, groups, k=4, kind="auto", seed=0)
    folds = assign_folds(labels, groups, k=4, kind="grouped", seed=0)
    assert sorted(set(folds.tolist())) == [0, 1, 2, 3]


def test_what_scikit_learn_refuses_is_a_data_error() -> None:
    groups = [f"g{row}" for row in range(6)]
    with pytest.raises(DataError, match="no 4 stratified_grouped folds can be drawn"):
        assign_folds(np.array([0, 0, 1, 1, 2, 2]), groups, k=4, kind="auto", seed=0)


def manifest(groups: tuple[str, ...] | None = None) -> Manifest:
    names = tuple(f"ä{row}.jpg" for row in range(6))
    return Manifest(
        ids=names,
        paths=tuple(f"/data/{name}" for name in names),
        labels=np.array([0, 0, 0, 1, 1, 1]),
        groups=groups,
        classes=("Kätzchen", "dog"),
        label_values=("0", "1"),
        test_ids=("t2", "t1"),
        test_paths=("/t/t2", "/t/t1"),
    )


FOLDS = np.array([0, 1, 2, 0, 1, 2], np.int16)


@pytest.mark.parametrize("groups", [None, ("a", "a", "b", "b", "c", "c")])
def test_what_is_written_is_read_again(tmp_path: Path, groups: tuple[str, ...] | None) -> None:
    location = Location.of(tmp_path) / "folds.parquet"
    write_folds(location, manifest(groups), FOLDS)
    table = read_folds(location)
    assert (table.ids, table.paths) == (manifest().ids, manifest().paths)
    assert table.groups == groups
    assert table.classes == ("Kätzchen", "dog")
    assert (table.labels.dtype, table.folds.dtype) == (np.int32, np.int16)
    assert table.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert table.folds.tolist() == FOLDS.tolist()
    assert table.k == 3
    assert not table.labels.flags.writeable
    assert not table.folds.flags.writeable


def test_the_file_has_the_promised_columns(tmp_path: Path) -> None:
    write_folds(Location.of(tmp_path) / "folds.parquet", manifest(), FOLDS)
    table = pq.read_table(tmp_path / "folds.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "id": "string",
        "path": "string",
        "label": "int32",
        "group": "string",
        "fold": "int16",
    }
    assert table["group"].null_count == 6


def test_folds_are_never_overwritten(tmp_path: Path) -> None:
    location = Location.of(tmp_path) / "folds.parquet"
    write_folds(location, manifest(), FOLDS)
    before = (tmp_path / "folds.parquet").read_bytes()
    with pytest.raises(DataError, match="never overwritten"):
        write_folds(location, manifest(), FOLDS[::-1])
    assert (tmp_path / "folds.parquet").read_bytes() == before


def test_a_fold_for_every_row_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="6 images but 2 folds"):
        write_folds(Location.of(tmp_path) / "folds.parquet", manifest(), FOLDS[:2])


def test_the_test_table_keeps_its_order(tmp_path: Path) -> None:
    location = Location.of(tmp_path) / "test.parquet"
    write_test(location, manifest())
    table = read_test_table(location)
    assert (table.ids, table.paths) == (("t2", "t1"), ("/t/t2", "/t/t1"))
    with pytest.raises(DataError, match="never overwritten"):
        write_test(location, manifest())


def test_a_file_that_is_no_fold_table_says_what_is_wrong(tmp_path: Path) -> None:
    location = Location.of(tmp_path) / "folds.parquet"
    with pytest.raises(DataError, match="no such file"):
        read_folds(location)
    location.write_bytes(b"not Parquet")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_folds(location)
    write_test(Location.of(tmp_path) / "test.parquet", manifest())
    with pytest.raises(DataError, match="expected a column label of type int32"):
        read_folds(Location.of(tmp_path) / "test.parquet")
    columns = {"id": ["a"], "path": ["p"], "label": pa.array([0], pa.int32())}
    columns |= {"group": ["g"], "fold": pa.array([0], pa.int16())}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    location.write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="class names"):
        read_folds(location)


def test_a_fold_that_does_not_exist_is_refused() -> None:
    table = table_of(np.array([0, 1, 0], np.int32), None, np.array([0, 1, 2], np.int16))
    for fold in (-1, 3):
        with pytest.raises(ValueError, match=f"fold {fold} does not exist: there are folds 0 to 2"):
            table.train_rows(fold)
