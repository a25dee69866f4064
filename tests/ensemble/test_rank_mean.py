from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.rank_mean import N_LEVELS, fit_rank_grid, rank_levels, rank_mean
from tests.ensemble.made import member_probabilities

ONE = np.array([1.0])
seeds = st.integers(0, 2**32 - 1)


def test_levels_are_dense_where_the_largest_probability_of_a_row_lies() -> None:
    levels = rank_levels(N_LEVELS)
    assert np.all(np.diff(levels) > 0)
    assert 0 < levels[0] < levels[-1] < 1
    assert np.count_nonzero(levels > 1 - 1 / 500) > 60  # of 500 classes


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(1, 30), st.integers(2, 5), st.booleans())
def test_the_grid_holds_quantiles_as_numpy_has_them(
    seed: int, rows: int, classes: int, zeros: bool
) -> None:
    probs, _, _ = member_probabilities(seed, 2, rows, classes, zeros=zeros)
    grid = fit_rank_grid(probs)
    assert grid.shape == (2, N_LEVELS)
    for proba, quantiles in zip(probs, grid, strict=True):
        expected = np.quantile(proba, rank_levels(N_LEVELS), method="inverted_cdf")
        np.testing.assert_array_equal(quantiles, expected)
    np.testing.assert_array_equal(fit_rank_grid(probs, np.full(rows, 3.0)), grid)


@settings(deadline=None, max_examples=30)
@given(seeds, st.booleans())
def test_one_member_keeps_the_order_of_its_classes_and_its_ties(seed: int, zeros: bool) -> None:
    probs, _, _ = member_probabilities(seed, 1, 40, 4, zeros=zeros)
    new, _, _ = member_probabilities(seed + 1, 1, 40, 4, zeros=True)
    ranks = rank_mean(new, ONE, fit_rank_grid(probs))
    for row, ranked in zip(new[0], ranks, strict=True):
        order = np.argsort(row, kind="stable")
        assert np.all(np.diff(ranked[order]) >= 0)
        same = np.diff(row[order]) == 0
        assert np.all(np.diff(ranked[order])[same] == 0)
        assert np.all(np.diff(ranked[order])[np.diff(row[order]) > 1e-3] > 0)


def test_a_member_that_is_only_overconfident_ranks_as_if_it_were_not() -> None:
    probs, _, _ = member_probabilities(3, 2, 200, 2)
    odds = (probs[0] / (1 - probs[0])).astype(np.float64) ** 3
    sharper = odds / (1 + odds)
    both = np.stack([probs[0], sharper])
    grid = fit_rank_grid(both)
    np.testing.assert_allclose(
        rank_mean(both[:1], ONE, grid[:1]), rank_mean(both[1:], ONE, grid[1:]), atol=2e-2
    )


def test_ties_get_the_middle_of_their_ranks() -> None:
    probs = np.array([[[0.0, 1.0]] * 50])
    half = rank_mean(probs, ONE, fit_rank_grid(probs))
    # Zeros fill the lower half of all ranks, ones the upper half: 1/4 to 3/4.
    np.testing.assert_allclose(half[0], [0.25, 0.75], atol=5e-3)


def test_a_row_does_not_depend_on_the_other_new_rows() -> None:
    probs, _, _ = member_probabilities(4, 3, 100, 3)
    grid, weights = fit_rank_grid(probs), np.full(3, 1 / 3)
    whole = rank_mean(probs, weights, grid)
    np.testing.assert_array_equal(rank_mean(probs[:, 7:8], weights, grid)[0], whole[7])


def test_values_beyond_all_that_was_seen_have_an_order() -> None:
    grid = fit_rank_grid(np.full((1, 10, 3), 1 / 3))
    row = np.array([[[0.1, 0.2, 0.7]]])
    ranks = rank_mean(row, ONE, grid)[0]
    assert ranks[0] < ranks[1] < ranks[2]


@pytest.mark.parametrize(
    "grid", [np.zeros(5), np.zeros((3, 5)), np.array([[0.5, 0.25]] * 2), np.full((2, 2), np.nan)]
)
def test_grids_that_are_none_are_refused(grid: np.ndarray) -> None:
    probs, _, _ = member_probabilities(0, 2, 5, 3)
    with pytest.raises(ValueError, match="quantiles"):
        rank_mean(probs, np.array([0.5, 0.5]), grid)
