from __future__ import annotations

import numpy as np
import pytest

from ensemble.blender import FoldBlender
from ensemble.blender_input import (
    KINDS,
    check_parameters,
    checked_folds,
    classes_and_labels,
    fold_numbers,
    from_mapping,
    groups_of,
    n_dimensions,
    row_weights_of,
    seed_of,
)
from ensemble.errors import BlendError


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("metric", None, "a metric's name"),
        ("methods", 3, "names of methods"),
        ("calibrate", "yes", "True or False"),
        ("greedy_steps", True, "a whole number"),
        ("bootstrap", 2.5, "a whole number"),
        ("l2", "much", "a number"),
        ("n_members", 1.5, "a whole number or None"),
        ("n_members", 0, "1 or more"),
        ("n_folds", 1, "2 or more"),
    ],
)
def test_a_parameter_of_another_kind_is_named(name: str, value: object, words: str) -> None:
    parameters = FoldBlender().get_params() | {name: value}
    with pytest.raises(ValueError, match=f"^{name}: expected {words}, got"):
        check_parameters(parameters)


def test_every_parameter_is_checked() -> None:
    assert {*KINDS, "random_state"} == set(FoldBlender().get_params())


def test_a_seed_is_taken_as_it_is_and_drawn_from_a_generator() -> None:
    assert seed_of(7) == 7
    assert seed_of(np.random.RandomState(1)) == seed_of(np.random.RandomState(1))
    with pytest.raises(ValueError):
        seed_of("seven")  # type: ignore[arg-type]


def test_classes_are_sorted_unless_their_order_is_given() -> None:
    y = np.array(["b", "a", "b"])
    classes, labels = classes_and_labels(y, None)
    assert (classes.tolist(), labels.tolist()) == (["a", "b"], [1, 0, 1])
    classes, labels = classes_and_labels(y, ["c", "b", "a"])
    assert (classes.tolist(), labels.tolist()) == (["c", "b", "a"], [1, 2, 1])


def test_a_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(ValueError, match="y: expected labels among classes, got 'c'"):
        classes_and_labels(np.array(["c", "a"]), ["a", "b"])
    with pytest.raises(ValueError, match="classes: expected every label once"):
        classes_and_labels(np.array(["a"]), ["a", "a"])


def test_labels_of_several_types_and_measurements_are_refused() -> None:
    with pytest.raises(ValueError, match="y: expected labels of one type"):
        classes_and_labels(np.array(["a", 1], dtype=object), None)
    with pytest.raises(ValueError, match="continuous"):
        classes_and_labels(np.array([0.5, 0.7]), None)


def test_row_weights_of_zero_only_are_refused() -> None:
    assert row_weights_of(None, 2) is None
    with pytest.raises(ValueError, match="sample_weight: expected a weight above 0"):
        row_weights_of([0, 0], 2)
    with pytest.raises(ValueError, match="got -1"):
        row_weights_of([1, -1], 2)
    with pytest.raises(ValueError, match="shape"):
        row_weights_of([1, 1, 1], 2)


def test_rows_without_a_group_have_none() -> None:
    groups = groups_of(np.array([1.0, np.nan, 1.0]), 3)
    assert groups is not None
    assert groups.tolist() == [1.0, None, 1.0]
    assert groups_of(None, 3) is None
    with pytest.raises(ValueError, match="groups: expected shape"):
        groups_of(["a"], 3)


def test_folds_are_numbered_in_the_order_of_their_names() -> None:
    assert fold_numbers(["z", "a", "z"], None, 3).tolist() == [1, 0, 1]
    assert fold_numbers([5, 9, -1], None, 3).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("folds", "words"),
    [
        ([0, 1], r"shape \(3,\), got \(2,\)"),
        ([1, 1, 1], "at least two"),
        ([0.0, 1.0, np.nan], "got nan in row 2"),
    ],
)
def test_impossible_folds_are_refused(folds: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=f"^folds: .*{words}"):
        fold_numbers(folds, None, 3)


def test_a_group_in_two_folds_is_refused() -> None:
    groups = np.array(["p", None, "p", None], dtype=object)
    assert fold_numbers([0, 1, 0, 0], groups, 4).tolist() == [0, 1, 0, 0]
    with pytest.raises(ValueError, match="got group 'p' in 0 and 1"):
        fold_numbers([0, 1, 1, 0], groups, 4)


def test_members_by_name_keep_their_order() -> None:
    assert list(from_mapping({"z": [[1.0]], "a": [[1.0]]})) == ["z", "a"]
    with pytest.raises(ValueError, match="at least one member"):
        from_mapping({})
    with pytest.raises(ValueError, match="as text, got 3"):
        from_mapping({3: [[1.0]]})  # type: ignore[dict-item]


def test_dimensions_are_told_of_arrays_and_lists() -> None:
    assert n_dimensions(np.zeros((2, 3, 4))) == 3
    assert n_dimensions([[[0.5, 0.5]]]) == 3
    assert n_dimensions([[0.5], [0.5, 0.5]]) == 2
    assert n_dimensions(object()) == 2


def test_predictions_of_fold_models_are_checked_one_by_one() -> None:
    one = np.array([[0.25, 0.75], [1.0, 0.0]])
    assert checked_folds("m", one, 2).shape == (1, 2, 2)
    wrong = np.stack([one, one])
    wrong[1, 1] = 0.75
    with pytest.raises(BlendError, match=r"member m: row 1: expected a sum of 1, got 1\.5"):
        checked_folds("m", wrong, 2)
    with pytest.raises(BlendError, match=r"member m: expected probabilities .* at least one row"):
        checked_folds("m", one[:0], 2)
    with pytest.raises(BlendError, match="member m: expected 2 rows of 3 classes"):
        checked_folds("m", one, 3)
