from __future__ import annotations

import json

import numpy as np
import pytest

from ensemble.average import BLOCK_VALUES, weighted_average
from ensemble.class_weights import class_mean
from ensemble.combine import KINDS, Combination
from ensemble.errors import BlendError
from ensemble.rank_mean import fit_rank_grid
from ensemble.stacking import stack
from tests.ensemble.made import member_probabilities

WEIGHTS = np.array([0.25, 0.0, 0.75])


def combinations() -> list[Combination]:
    """One of every kind, of three members and three classes; the second has no weight."""
    probs, _, _ = member_probabilities(0, 3, 60, 3)
    rng = np.random.default_rng(0)
    matrix = np.tile(WEIGHTS[:, None], 3) * rng.uniform(0.5, 1.0, size=(3, 3))
    coef = np.where(WEIGHTS[:, None, None] > 0, rng.normal(size=(3, 3, 3)), 0.0)
    parameters = {
        "rank_mean": {"grid": fit_rank_grid(probs)},
        "class_mean": {"class_weights": matrix},
        "stacking": {"coef": coef, "intercept": rng.normal(size=3)},
    }
    return [Combination(kind, WEIGHTS, parameters.get(kind, {})) for kind in KINDS]


EVERY = pytest.mark.parametrize("one", combinations(), ids=lambda one: one.kind)


@EVERY
def test_members_without_weight_may_be_missing(one: Combination) -> None:
    probs, _, _ = member_probabilities(1, 3, 40, 3, zeros=True)
    np.testing.assert_array_equal(one.needed, [True, False, True])
    np.testing.assert_array_equal(one([probs[0], None, probs[2]]), one(probs))
    np.testing.assert_array_equal(one(list(probs)), one(probs))


@EVERY
def test_members_without_weight_can_be_dropped(one: Combination) -> None:
    probs, _, _ = member_probabilities(1, 3, 40, 3)
    fewer = one.only(one.needed)
    assert len(fewer.weights) == 2
    np.testing.assert_array_equal(fewer(probs[[0, 2]]), one(probs))
    same = one.only(np.ones(3, bool))
    np.testing.assert_array_equal(same(probs), one(probs))


@EVERY
def test_many_rows_are_as_a_few(one: Combination) -> None:
    probs, _, _ = member_probabilities(2, 3, BLOCK_VALUES // 3 + 100, 3)
    whole = one(probs)
    rows = slice(BLOCK_VALUES // 3 - 10, BLOCK_VALUES // 3 + 10)
    np.testing.assert_allclose(whole[rows], one(probs[:, rows]), rtol=1e-9)


@EVERY
def test_json_and_back(one: Combination) -> None:
    again = Combination.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False)))
    assert again.kind == one.kind
    np.testing.assert_array_equal(again.weights, one.weights)
    assert list(again.parameters) == list(one.parameters)
    for name, values in one.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], values)


@EVERY
def test_its_arrays_are_copies_and_cannot_be_changed(one: Combination) -> None:
    given = one.weights.copy()
    made = Combination(one.kind, given, one.parameters)
    given[:] = 0.0
    np.testing.assert_array_equal(made.weights, WEIGHTS)
    for values in (made.weights, *made.parameters.values()):
        with pytest.raises(ValueError, match="read-only"):
            values[...] = 0.0


def test_kinds_are_the_functions_of_their_names() -> None:
    by_kind = {one.kind: one for one in combinations()}
    probs, _, _ = member_probabilities(3, 3, 30, 3)
    for kind, expected in (
        ("mean", weighted_average(probs, WEIGHTS)),
        ("class_mean", class_mean(probs, by_kind["class_mean"].parameters["class_weights"])),
        ("stacking", stack(probs, **by_kind["stacking"].parameters)),
    ):
        np.testing.assert_array_equal(by_kind[kind](probs), expected)


def test_the_true_class_is_enough_for_a_mean() -> None:
    probs, labels, _ = member_probabilities(4, 3, 50, 3)
    one, rows = Combination("mean", WEIGHTS), np.arange(50)
    found = one.of_true_class(probs[:, rows, labels])
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, one(probs)[rows, labels])


@EVERY
def test_the_true_class_is_not_enough_for_other_kinds(one: Combination) -> None:
    if one.kind != "mean":
        with pytest.raises(ValueError, match=f"{one.kind} needs the probabilities of all classes"):
            one.of_true_class(np.full((3, 5), 0.5))


def test_true_class_probabilities_that_do_not_fit_are_refused() -> None:
    one = Combination("mean", WEIGHTS)
    with pytest.raises(ValueError, match=r"of 3 members .*got \(2, 5\)"):
        one.of_true_class(np.full((2, 5), 0.5))
    with pytest.raises(ValueError, match="member 2: expected probabilities, got NaN"):
        one.of_true_class(np.array([[0.5], [np.nan], [np.nan]]))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([0, None, None], "member 2: expected probabilities, got none"),
        ([0, 1], "expected 3 members, got 2"),
        ([0, 1, np.full((1, 3), 1 / 3)], r"member 2: expected .* \(4, 3\), got \(1, 3\)"),
        ([np.full(3, 1 / 3), 1, 2], "member 0: expected probabilities of shape"),
        ([np.full((4, 3), np.nan), 1, 2], "member 0: .*NaN"),
        ([0, 1, np.full((4, 3), 2.0)], "member 2: expected values from 0 to 1"),
    ],
)
def test_members_that_do_not_fit_are_named(members: list, message: str) -> None:
    fine = np.full((4, 3), 1 / 3)
    given = [fine if isinstance(one, int) else one for one in members]
    with pytest.raises(ValueError, match=message):
        Combination("mean", WEIGHTS)(given)


@pytest.mark.parametrize("kind", ["class_mean", "stacking"])
def test_another_number_of_classes_than_fitted_is_refused(kind: str) -> None:
    one = next(one for one in combinations() if one.kind == kind)
    with pytest.raises(ValueError, match=r"member 0: expected .* \(5, 3\), got \(5, 4\)"):
        one(np.full((3, 5, 4), 0.25))


@pytest.mark.parametrize("mask", [[True, True], [1, 0, 1], [True, True, False]])
def test_a_mask_that_drops_who_is_needed_is_refused(mask: list) -> None:
    with pytest.raises(ValueError, match=r"mask of 3 members|keep member 2"):
        Combination("mean", WEIGHTS).only(np.array(mask))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "means", "weights": [1.0]}, "'means'.* did you mean mean?"),
        ({"kind": "mean"}, "with kind, weights and parameters, got kind"),
        ({"kind": "mean", "weights": [1.0], "weight": 1}, "got kind, weights, weight"),
        ({"kind": "mean", "weights": [1.0], "parameters": [1]}, "with kind, weights"),
        ({"kind": "mean", "weights": [0.5, 0.25]}, "mean: .*sum of 0.75"),
        ({"kind": "mean", "weights": []}, "mean: expected a weight for each member"),
        ({"kind": "mean", "weights": "a lot"}, "combination mean: "),
        ({"kind": "mean", "weights": [[0.5], [0.5, 0.5]]}, "combination mean: "),
        ({"kind": "mean", "weights": [1.0], "parameters": {"grid": [[0.5]]}}, "none, got grid"),
        ({"kind": "rank_mean", "weights": [1.0]}, "parameters grid, got none"),
        ({"kind": "rank_mean", "weights": [1.0], "parameters": {"grid": [0.5]}}, "quantiles"),
        (
            {"kind": "class_mean", "weights": [1.0], "parameters": {"class_weights": 1.0}},
            "class_mean: expected class weights of shape",
        ),
        (
            {
                "kind": "stacking",
                "weights": [1.0],
                "parameters": {"coef": [1.0, 1.0], "intercept": [0.0, 0.0]},
            },
            "stacking: expected coefficients of shape",
        ),
    ],
)
def test_what_is_no_combination_is_refused_in_one_line(data: dict, message: str) -> None:
    with pytest.raises(BlendError, match=message) as caught:
        Combination.from_dict(data)
    assert "\n" not in str(caught.value)


def test_parameters_may_be_left_out_where_there_are_none() -> None:
    one = Combination.from_dict({"kind": "mean", "weights": [0.5, 0.5]})
    np.testing.assert_array_equal(one.weights, [0.5, 0.5])
    assert not one.parameters
