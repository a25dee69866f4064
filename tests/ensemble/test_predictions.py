from __future__ import annotations

import numpy as np
import pytest

from ensemble.errors import BlendError
from ensemble.predictions import Predictions, concatenate
from tests.ensemble.made import made_members

IDS = np.array(["a", "b", "c"], dtype=object)
LABELS = np.array([0, 1, -1])
FOLDS = np.array([0, 1, 1])
PROBA = np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])


def make(**changes: object) -> Predictions:
    given = {"ids": IDS, "labels": LABELS, "folds": FOLDS, "proba": PROBA} | changes
    return Predictions(**given)  # type: ignore[arg-type]


def test_values_are_kept_with_the_promised_types() -> None:
    predictions = make()
    assert (predictions.n_rows, predictions.n_classes) == (3, 2)
    assert predictions.ids.tolist() == ["a", "b", "c"]
    assert predictions.labels.dtype == np.int32
    assert predictions.folds.dtype == np.int16
    assert predictions.proba.dtype == np.float32
    np.testing.assert_array_equal(predictions.proba, PROBA)


def test_p_true_is_nan_where_the_label_is_unknown() -> None:
    p_true = make().p_true
    assert p_true.dtype == np.float32
    np.testing.assert_array_equal(p_true, [0.75, 0.5, np.nan])


def test_predictions_cannot_be_changed_and_the_callers_arrays_still_can() -> None:
    proba = PROBA.astype(np.float32)
    predictions = make(proba=proba)
    with pytest.raises(ValueError, match="read-only"):
        predictions.proba[0, 0] = 1.0
    proba[0] = [0.5, 0.5]


def test_ids_are_exact_strings() -> None:
    odd = np.array(["a", "a ", "a\0", "A", "ä", "a\u0308"], dtype=object)
    predictions = Predictions(
        odd, np.zeros(6, int), np.zeros(6, int), np.full((6, 2), 0.5, np.float32)
    )
    assert predictions.ids.tolist() == odd.tolist()


def test_numpy_text_ids_become_python_text() -> None:
    assert all(type(name) is str for name in make(ids=np.array(["a", "b", "c"])).ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": np.array(["a", "b", "a"])}, "every id once, got 'a' 2 times"),
        ({"ids": np.array(["a", "b"])}, "got 2 ids, 3 labels, 3 folds, 3 proba"),
        ({"ids": np.array([1, 2, 3])}, r"row 0: expected the id as text, got 1 \(int\)"),
        ({"ids": np.array(["a", None, "c"], dtype=object)}, "row 1: .*got None"),
        ({"labels": np.array([0, 1])}, "2 labels"),
        ({"labels": np.array([0, 2, -1])}, "id 'b': expected a label .* to 1, got 2"),
        ({"labels": np.array([0, -2, -1])}, "id 'b': .*got -2"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, "labels as integers, got float64"),
        ({"folds": np.array([0, 1, 40000])}, "folds within int16, got up to 40000"),
        ({"folds": np.array([[0, 1, 2]])}, r"folds of shape \(rows,\)"),
        ({"proba": PROBA[:, 0]}, r"shape \(rows, classes\)"),
        ({"proba": PROBA.astype(object)}, "object"),
        ({"proba": PROBA[:2]}, "2 proba"),
        ({"proba": [[0.75, 0.25], [0.5, np.nan], [0.5, 0.5]]}, "row 1, class 1: .*got nan"),
        ({"proba": [[0.75, 0.25], [np.inf, 0.5], [0.5, 0.5]]}, "row 1, class 0: .*got inf"),
        ({"proba": [[1.5, -0.5], [0.5, 0.5], [0.5, 0.5]]}, "row 0, class 0: .*got 1.5"),
        ({"proba": [[0.5, 0.5], [0.5, 0.5], [0.5, 0.49]]}, "row 2: expected a sum of 1, got 0.99"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes: dict, message: str) -> None:
    with pytest.raises(BlendError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


def test_the_first_repeated_id_is_named() -> None:
    with pytest.raises(BlendError, match="'b' 2 times"):
        Predictions(
            np.array(list("abbccc")), np.zeros(6, int), np.zeros(6, int), np.full((6, 2), 0.5)
        )


def test_a_sum_within_a_thousandth_of_one_passes() -> None:
    assert make(proba=[[0.7505, 0.25], [0.5, 0.4995], [0.5, 0.5]]).n_rows == 3


def test_a_rounding_error_outside_the_range_is_clipped() -> None:
    proba = make(proba=[[1.0000001, -1e-7], [0.5, 0.5], [0.5, 0.5]]).proba
    np.testing.assert_array_equal(proba[0], [1.0, 0.0])


def test_no_rows_are_predictions_too() -> None:
    empty = make().take([])
    assert (empty.n_rows, empty.n_classes) == (0, 2)
    assert empty.p_true.shape == (0,)


def test_take_keeps_rows_together_in_the_given_order() -> None:
    for rows in ([2, 0], np.array([2, 0])):
        taken = make().take(rows)
        assert taken.ids.tolist() == ["c", "a"]
        assert taken.labels.tolist() == [-1, 0]
        assert taken.folds.tolist() == [1, 0]
        np.testing.assert_array_equal(taken.proba, PROBA[[2, 0]])
    assert make().take(FOLDS == 1).ids.tolist() == ["b", "c"]
    assert make().take(slice(1, None)).ids.tolist() == ["b", "c"]


def test_alignment_reorders_every_column_by_id() -> None:
    predictions = made_members()["c0"]
    order = np.random.default_rng(0).permutation(predictions.n_rows)
    shuffled = predictions.take(order)
    back = shuffled.aligned_to(predictions.ids)
    for column in ("ids", "labels", "folds", "proba"):
        np.testing.assert_array_equal(getattr(back, column), getattr(predictions, column))


def test_alignment_names_missing_and_unexpected_ids_and_counts_them() -> None:
    with pytest.raises(BlendError) as caught:
        make().aligned_to(["a", "v", "w", "x", "y"])
    assert str(caught.value) == (
        "expected 5 ids, got 3: 4 missing ('v', 'w', 'x', …); 2 unexpected ('b', 'c')"
    )


def test_alignment_refuses_an_id_asked_for_twice() -> None:
    with pytest.raises(BlendError, match="'a' 2 times"):
        make().aligned_to(["a", "a", "b", "c"])


def test_parts_are_concatenated_in_order() -> None:
    whole = made_members()["c0"]
    parts = [whole.take(slice(0, 50)), whole.take([]), whole.take(slice(50, None))]
    again = concatenate(parts)
    np.testing.assert_array_equal(again.proba, whole.proba)
    assert again.ids.tolist() == whole.ids.tolist()


def test_parts_that_overlap_or_differ_in_classes_are_refused() -> None:
    with pytest.raises(BlendError, match="every id once"):
        concatenate([make(), make().take([1])])
    three = Predictions(
        np.array(["x"]), np.array([0]), np.array([0]), np.array([[0.5, 0.25, 0.25]])
    )
    with pytest.raises(BlendError, match=r"parts with \[2, 3\]"):
        concatenate([make(), three])
    with pytest.raises(BlendError, match="at least one part"):
        concatenate([])


@pytest.mark.parametrize("factor", [1.0009, 0.9991])
def test_rows_are_divided_by_a_sum_that_is_off_by_more_than_rounding(factor: float) -> None:
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(5), size=20).astype(np.float32)
    scaled = (proba * factor).astype(np.float32)
    kept = scaled.copy()
    made = Predictions(*rows(20), scaled)
    np.testing.assert_allclose(made.proba, proba, atol=1e-7)
    np.testing.assert_array_equal(scaled, kept)  # the caller's own
    again = Predictions(*rows(20), made.proba)
    np.testing.assert_array_equal(again.proba, made.proba)


def test_rounding_errors_stay_as_they_are_to_the_byte() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 400)).astype(np.float32)
    proba = np.exp(logits)
    proba /= proba.sum(axis=1, keepdims=True)  # in float32, as a model does
    assert proba.dtype == np.float32
    assert Predictions(*rows(50), proba).proba.tobytes() == proba.tobytes()


def rows(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids = np.array([f"r{row}" for row in range(count)], dtype=object)
    return ids, np.zeros(count, np.int32), np.zeros(count, np.int16)
