from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.array_file import ids_beside, read_array_file, stem_of
from ensemble.sources.label_table import LabelTable
from ensemble.sources.options import GatherOptions

NONE = GatherOptions()
VALUES = np.array([[0.25, 0.75], [1.0, 0.0]])


@pytest.fixture
def where(tmp_path: Path) -> Location:
    np.save(tmp_path / "m.npy", VALUES)
    return Location.of(tmp_path / "m.npy")


def labels(*ids: str) -> LabelTable:
    return LabelTable("y.csv", np.array(ids, dtype=object), np.full(len(ids), "cat", dtype=object))


def test_ids_of_the_table_of_the_same_name_come_first(where: Location, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,label\nb,cat\na,dog\n")
    (tmp_path / "ids.csv").write_text("id\nx\ny\n")
    raw = read_array_file(where, NONE, labels("p", "q"))
    assert raw.ids.tolist() == ["b", "a"]
    assert raw.labels is not None
    assert raw.labels.labels.tolist() == ["cat", "dog"]
    np.testing.assert_array_equal(raw.values, VALUES)


def test_then_those_of_the_folder(where: Location, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id\nx\ny\n")
    assert read_array_file(where, NONE, labels("p", "q")).ids.tolist() == ["x", "y"]


def test_then_the_order_of_the_labels_is_taken_and_said(where: Location) -> None:
    raw = read_array_file(where, NONE, labels("p", "q"))
    assert raw.ids.tolist() == ["p", "q"]
    (note,) = raw.notes
    assert note.endswith("its rows are taken to be those of y.csv, in order")


def test_test_rows_are_never_taken_for_those_of_the_training_ids(
    where: Location, tmp_path: Path
) -> None:
    (tmp_path / "ids.csv").write_text("id\nx\ny\n")
    with pytest.raises(BlendError, match=r"no ids for its 2 rows: .*m\.csv or test_ids\.csv"):
        read_array_file(where, NONE, test=True)
    (tmp_path / "test_ids.csv").write_text("id\nt\nu\n")
    assert read_array_file(where, NONE, test=True).ids.tolist() == ["t", "u"]


def test_ids_may_lie_in_the_folder_above_oof_and_test(tmp_path: Path) -> None:
    for kind in ("oof", "test"):
        (tmp_path / kind).mkdir()
    (tmp_path / "ids.csv").write_text("id\nx\n")
    (tmp_path / "test_ids.csv").write_text("id\nt\n")
    for kind, expected in (("oof", "ids.csv"), ("test", "test_ids.csv")):
        found = ids_beside(Location.of(tmp_path / kind / "m.npy"), test=kind == "test")
        assert found is not None
        assert found.name == expected


def test_another_number_of_rows_is_refused(where: Location, tmp_path: Path) -> None:
    with pytest.raises(BlendError, match=r"m\.npy: expected one row for each of the 3 rows of y"):
        read_array_file(where, NONE, labels("p", "q", "r"))
    (tmp_path / "m.csv").write_text("id\na\n")
    with pytest.raises(BlendError, match=r"for each of the 1 ids of m\.csv, got 2"):
        read_array_file(where, NONE)


@pytest.mark.parametrize(
    "values", [np.zeros(3), np.zeros((2, 2, 2)), np.array([["a", "b"]]), np.zeros((2, 2), complex)]
)
def test_another_shape_or_type_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "m.npy", values)
    with pytest.raises(BlendError, match=r"expected numbers of shape \(rows, classes\)"):
        read_array_file(Location.of(tmp_path / "m.npy"), NONE, labels("p", "q"))


def test_pickles_and_other_bytes_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    where = Location.of(tmp_path / "m.npy")
    with pytest.raises(BlendError, match=r"m\.npy: expected an array of numbers"):
        read_array_file(where, NONE)
    where.write_bytes(b"no array")
    with pytest.raises(BlendError, match=r"m\.npy: expected an array of numbers"):
        read_array_file(where, NONE)


def test_whole_numbers_are_probabilities_too(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.eye(2, dtype=np.int64))
    raw = read_array_file(Location.of(tmp_path / "m.npy"), NONE, labels("p", "q"))
    assert raw.values.dtype == np.float32


def test_the_stem_is_the_name_without_its_suffix(tmp_path: Path) -> None:
    assert stem_of(Location.of(tmp_path / "a.b.npy")) == "a.b"
    assert stem_of(Location.of(tmp_path / "plain")) == "plain"
