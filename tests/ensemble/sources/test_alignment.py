from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import BlendError
from ensemble.sources.alignment import (
    Reference,
    align_member,
    align_test,
    class_indices,
    unnamed_columns,
)
from ensemble.sources.raw import RawPredictions
from tests.ensemble.sources.made import CLASSES, members

ONE = members()["c0"]
REFERENCE = Reference("y.csv", CLASSES, ONE.ids, ONE.labels, ONE.folds)


def raw(
    values: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    classes: tuple[str, ...] | None = CLASSES,
    *,
    exact: bool = False,
) -> RawPredictions:
    return RawPredictions(
        "m.csv",
        ONE.ids if ids is None else ids,
        ONE.proba if values is None else values,
        classes,
        exact=exact,
    )


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_rows_and_columns_in_any_order_are_the_same_member(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(60), rng.permutation(3)
    shuffled = raw(
        ONE.proba[np.ix_(rows, columns)], ONE.ids[rows], tuple(CLASSES[c] for c in columns)
    )
    member, notes = align_member(shuffled, REFERENCE)
    np.testing.assert_array_equal(member.proba, ONE.proba)
    np.testing.assert_array_equal(member.ids, ONE.ids)
    assert notes == []


def test_numbered_columns_are_taken_in_order() -> None:
    np.testing.assert_array_equal(align_member(raw(classes=None), REFERENCE)[0].proba, ONE.proba)
    with pytest.raises(BlendError, match=r"m\.csv: expected 3 columns .*, got 2"):
        align_member(raw(ONE.proba[:, :2], classes=None), REFERENCE)


def test_other_classes_are_named() -> None:
    with pytest.raises(BlendError, match="missing 'dog'; unexpected 'hog'"):
        align_member(raw(classes=("cat", "hog", "élan")), REFERENCE)


def test_rows_more_are_left_out_unless_they_must_match() -> None:
    ids = np.append(ONE.ids, "more.jpg")
    values = np.vstack([ONE.proba, ONE.proba[:1]])
    member, notes = align_member(raw(values, ids), REFERENCE)
    assert member.n_rows == 60
    assert notes == ["m.csv: 1 id has no label ('more.jpg'): left out"]
    with pytest.raises(BlendError, match=r"m\.csv: .* 1 unexpected \('more\.jpg'\)"):
        align_member(raw(values, ids, exact=True), REFERENCE)


def test_lost_leading_zeros_are_recognised() -> None:
    ids = np.array([f"{i:04d}" for i in range(60)], dtype=object)
    lost = np.array([str(i) for i in range(60)], dtype=object)
    reference = Reference("y.csv", CLASSES, ids, ONE.labels, ONE.folds)
    with pytest.raises(BlendError, match=r"60 missing .*differ in leading zeros only"):
        align_member(raw(ids=lost), reference)


def changed(row: int, column: int, value: float) -> RawPredictions:
    values = ONE.proba.copy()
    values[row, column] = value
    return raw(values)


class TestProbabilities:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_named(self, value: float) -> None:
        with pytest.raises(BlendError, match=r"m\.csv, id 'image 4\.jpg', class 'dog': expected"):
            align_member(changed(4, 1, value), REFERENCE)

    def test_a_negative_value_is_named_with_the_sum(self) -> None:
        with pytest.raises(BlendError, match=r"'image 2\.jpg', class 'cat': .* got -0\.5 .*logits"):
            align_member(changed(2, 0, -0.5), REFERENCE)

    def test_a_sum_that_is_off_is_named(self) -> None:
        values = ONE.proba.copy()
        values[7] = [0.5, 0.25, 0.5]
        with pytest.raises(
            BlendError, match=r"'image 7\.jpg': .* got a sum of 1\.25 \(1 rows .*normalise"
        ):
            align_member(raw(values), REFERENCE)

    def test_logits_and_log_probabilities_are_told_apart(self) -> None:
        with pytest.raises(BlendError, match="looks like log probabilities: apply exp"):
            align_member(raw(np.log(ONE.proba)), REFERENCE)
        with pytest.raises(BlendError, match="looks like logits: apply softmax"):
            align_member(raw(3 + 5 * ONE.proba), REFERENCE)

    def test_rows_are_divided_by_their_sum_when_asked(self) -> None:
        values = ONE.proba.astype(np.float64)
        values[3:5] *= 2
        member, (note,) = align_member(raw(values), REFERENCE, normalise=True)
        np.testing.assert_allclose(member.proba, ONE.proba, atol=1e-6)
        assert note.startswith("m.csv: 2 rows did not sum to 1 (first id 'image 3.jpg', sum 2)")

    def test_sums_that_are_off_by_less_than_a_thousandth_are_divided_away(self) -> None:
        values = ONE.proba.astype(np.float64) * 1.0009
        member, notes = align_member(raw(values), REFERENCE)
        np.testing.assert_allclose(member.proba, ONE.proba, atol=1e-7)
        sure = np.tile([1.0005, 0.0004, 0.0], (60, 1))  # the first is above 1 itself
        member, _ = align_member(raw(sure), REFERENCE)
        np.testing.assert_allclose(member.proba, sure / 1.0009, atol=1e-7)
        assert notes == []

    def test_a_row_of_zeros_cannot_be_normalised(self) -> None:
        values = ONE.proba.copy()
        values[5] = 0
        with pytest.raises(BlendError, match=r"'image 5\.jpg': .* got a sum of 0"):
            align_member(raw(values), REFERENCE, normalise=True)

    def test_rounding_is_forgiven(self) -> None:
        values = np.tile(np.array([1 + 1e-7, -1e-7, 0.0]), (60, 1))
        member, _ = align_member(raw(values), REFERENCE)
        assert member.proba.min() == 0.0
        assert member.proba.max() == 1.0


class TestTests:
    def test_test_rows_have_no_label_and_follow_the_first(self) -> None:
        turned = raw(ONE.proba[::-1], ONE.ids[::-1])
        test, _ = align_test(turned, CLASSES, ONE.ids, where="a.csv")
        np.testing.assert_array_equal(test.proba, ONE.proba)
        assert set(test.labels.tolist()) == set(test.folds.tolist()) == {-1}

    def test_other_images_are_refused(self) -> None:
        part = raw(ONE.proba[:50], ONE.ids[:50])
        with pytest.raises(BlendError, match=r"m\.csv: expected the 60 ids of a\.csv, got 50: 10"):
            align_test(part, CLASSES, ONE.ids, where="a.csv")
        with pytest.raises(BlendError, match="10 unexpected"):
            align_test(raw(), CLASSES, ONE.ids[:50], where="a.csv")


class TestClassIndices:
    def of(self, *labels: str, classes: tuple[str, ...] = CLASSES) -> list[int]:
        ids = np.array([f"r{i}" for i in range(len(labels))], dtype=object)
        named = np.array(labels, dtype=object)
        return class_indices(named, classes, "y.csv", ids).tolist()

    def test_labels_are_names_or_else_numbers(self) -> None:
        assert self.of("élan", "cat") == [2, 0]
        assert self.of("2", "0") == [2, 0]
        assert self.of("1", "0", classes=("1", "0")) == [0, 1]

    def test_an_unknown_label_gets_the_nearest_class(self) -> None:
        with pytest.raises(
            BlendError, match=r"y\.csv, id 'r1': label 'dogs' .*; did you mean 'dog'"
        ):
            self.of("cat", "dogs")
        with pytest.raises(BlendError, match="label '3' is none of the 3 classes"):
            self.of("3")


def test_columns_without_names_are_said_to_be_taken_in_order() -> None:
    assert unnamed_columns([], CLASSES) == []
    assert unnamed_columns(["a.npy"], ("0", "1", "2")) == []
    assert unnamed_columns(["a.npy"], CLASSES) == [
        "columns of a.npy have no names: taken for 'cat', 'dog', 'élan', in order"
    ]
    (note,) = unnamed_columns(["a.npy", "b.npy", "c.npy"], CLASSES)
    assert note.startswith("columns of a.npy and of 2 more have no names")
