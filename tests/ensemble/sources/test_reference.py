from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensemble.errors import BlendError
from ensemble.sources.label_table import LabelTable
from ensemble.sources.options import GatherOptions
from ensemble.sources.raw import RawPredictions
from ensemble.sources.reference import (
    fold_differences,
    make_reference,
    minus_one_is_class,
    row_weights,
)

NONE = GatherOptions(folds=2)


def text(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def table(*labels: str, where: str = "y.csv", **more: object) -> LabelTable:
    ids = text(*(f"r{i}" for i in range(len(labels))))
    return LabelTable(where, ids, text(*labels), **more)  # type: ignore[arg-type]


def raw(
    width: int = 2, classes: tuple[str, ...] | None = None, labels: LabelTable | None = None
) -> dict[str, RawPredictions]:
    return {"m": RawPredictions("m.npy", text(), np.empty((0, width)), classes, labels)}


class TestClasses:
    def test_named_columns_give_the_order(self) -> None:
        reference, _ = make_reference(table("cat", "dog"), raw(classes=("dog", "cat")), NONE)
        assert reference.classes == ("dog", "cat")
        assert reference.labels.tolist() == [1, 0]

    def test_numbers_stay_numbers(self) -> None:
        reference, notes = make_reference(table("2", "0", "1"), raw(12), NONE)
        assert reference.classes == tuple(map(str, range(12)))
        assert reference.labels.tolist() == [2, 0, 1]
        assert len(notes) == 1

    def test_names_of_numbered_columns_are_sorted(self) -> None:
        reference, _ = make_reference(table("dog", "cat"), raw(), NONE)
        assert reference.classes == ("cat", "dog")

    def test_labels_that_are_whole_numbers_are_sorted_by_size(self) -> None:
        labels = table("10", "2", "1", "9", "3", "4", "5", "6", "7", "8")
        reference, _ = make_reference(labels, raw(10), NONE)
        assert reference.classes == tuple(map(str, range(1, 11)))
        assert reference.labels.tolist() == [9, 1, 0, 8, 2, 3, 4, 5, 6, 7]

    def test_columns_that_are_whole_numbers_are_ordered_by_size_as_labels_are_names(self) -> None:
        reference, _ = make_reference(table("10", "2"), raw(3, ("1", "10", "2")), NONE)
        assert reference.classes == ("1", "2", "10")
        assert reference.labels.tolist() == [2, 1]

    def test_labels_that_are_positions_keep_the_order_of_the_columns(self) -> None:
        reference, _ = make_reference(table("0", "2"), raw(3, ("1", "10", "2")), NONE)
        assert reference.classes == ("1", "10", "2")
        assert reference.labels.tolist() == [0, 2]

    def test_another_number_of_columns_is_refused(self) -> None:
        with pytest.raises(BlendError, match=r"m\.npy: expected a column for each of the 2"):
            make_reference(table("dog", "cat"), raw(3), NONE)

    def test_labels_that_are_positions_are_noted(self) -> None:
        _, notes = make_reference(table("0", "1"), raw(classes=("cat", "dog")), NONE)
        assert notes[0] == "y.csv: labels are numbers, read as positions in 'cat', 'dog'"


class TestRowsAndFolds:
    def test_rows_without_a_label_are_left_out_and_counted(self) -> None:
        reference, notes = make_reference(table("cat", "", "dog"), raw(), NONE)
        assert reference.ids.tolist() == ["r0", "r2"]
        assert notes[0] == "y.csv: 1 rows have no label: left out"

    def test_no_labels_at_all_are_refused(self) -> None:
        with pytest.raises(BlendError, match="expected labels, got none in 2 rows"):
            make_reference(table("", ""), raw(), NONE)

    def test_folds_of_the_labels_go_before_those_of_files(self) -> None:
        own = table("cat", "dog", where="m.csv", folds=np.array([1, 1]))
        labels = table("cat", "dog", folds=np.array([0, 4]))
        reference, notes = make_reference(labels, raw(labels=own), NONE)
        assert reference.folds.tolist() == [0, 4]
        assert notes == []
        assert fold_differences(reference, labels, raw(labels=own)) == [
            "folds differ between y.csv and m.csv: scored on the folds of y.csv"
        ]

    def test_folds_of_a_file_are_taken_and_said(self) -> None:
        own = table("cat", "dog", where="m.csv", folds=np.array([3, 1]))
        reference, notes = make_reference(table("cat", "dog"), raw(labels=own), NONE)
        assert reference.folds.tolist() == [3, 1]
        assert notes[-1] == "folds are those of m.csv"
        assert fold_differences(reference, table("cat", "dog"), raw(labels=own)) == []

    def test_folds_must_cover_every_row_and_be_numbers_from_zero(self) -> None:
        own = table("cat", where="m.csv", folds=np.array([3]))
        with pytest.raises(BlendError, match=r"m\.csv: expected a fold for every .* 1 \('r1'\)"):
            make_reference(table("cat", "dog"), raw(labels=own), NONE)
        with pytest.raises(BlendError, match=r"y\.csv, id 'r1': expected a fold of at least 0"):
            make_reference(table("cat", "dog", folds=np.array([0, -1])), raw(), NONE)

    def test_folds_are_made_where_there_are_none(self) -> None:
        reference, notes = make_reference(table(*(["cat", "dog"] * 4)), raw(), NONE)
        assert sorted(set(reference.folds.tolist())) == [0, 1]
        assert notes[-1] == "no folds given: 2 stratified folds made here (seed 0)"


class TestRowWeights:
    def test_none_are_none(self) -> None:
        assert row_weights(table("cat")) is None

    @pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
    def test_what_is_no_weight_is_named(self, wrong: float) -> None:
        with pytest.raises(BlendError, match=r"y\.csv, id 'r1': expected a weight of at least 0"):
            row_weights(table("cat", "dog", weights=np.array([1.0, wrong])))

    def test_all_zero_is_refused(self) -> None:
        with pytest.raises(BlendError, match="above 0 in some row"):
            row_weights(table("cat", weights=np.array([0.0])))


def test_groups_that_lie_in_several_folds_are_noted() -> None:
    groups = np.array(["a", "a", "b", "b", None, None], dtype=object)
    labels = table("cat", "dog", "cat", "dog", "cat", "dog", groups=groups)
    together = replace(labels, folds=np.array([0, 0, 1, 1, 0, 1]))
    split = replace(labels, folds=np.array([0, 1, 1, 1, 0, 1]))
    assert make_reference(together, raw(classes=("cat", "dog")), NONE)[1] == []
    (note,) = make_reference(split, raw(classes=("cat", "dog")), NONE)[1]
    assert note.startswith("1 of 2 groups lie in several folds (first 'a'): the nested score")


@pytest.mark.parametrize(
    ("labels", "width", "classes", "expected"),
    [
        (("-1", "1"), 2, ("-1", "1"), True),
        (("-1", "1"), 2, ("0", "1"), False),
        (("-1", "1"), 2, None, True),
        (("-1", "0", "1"), 2, None, False),
        (("-1", "0", "1"), 3, None, True),
        (("0", "1"), 2, None, False),
    ],
)
def test_minus_one_is_a_class_where_a_column_is_left_for_it(
    labels: tuple[str, ...], width: int, classes: tuple[str, ...] | None, expected: bool
) -> None:
    assert minus_one_is_class(table(*labels), raw(width, classes)) is expected
