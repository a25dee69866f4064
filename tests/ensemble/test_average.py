from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.average import (
    BLOCK_VALUES,
    check_member,
    check_weights,
    row_blocks,
    true_class_matrix,
    weighted_average,
)
from tests.ensemble.made import member_probabilities

PROBS = np.array([[[0.5, 0.5], [1.0, 0.0]], [[0.25, 0.75], [0.5, 0.5]]])


def test_worked_value() -> None:
    np.testing.assert_array_equal(
        weighted_average(PROBS, np.array([0.25, 0.75])), [[0.3125, 0.6875], [0.625, 0.375]]
    )


def test_one_member_returns_its_own_probabilities() -> None:
    probs, _, _ = member_probabilities(0, 1, 20, 3, zeros=True)
    blend = weighted_average(probs, np.array([1.0]))
    assert blend.dtype == np.float64
    np.testing.assert_array_equal(blend, probs[0])


def test_single_precision_members_are_averaged_in_double_precision() -> None:
    probs = np.full((3, 1, 2), 0.5, np.float32)
    weights = np.array([0.1, 0.2, 0.7])
    assert weighted_average(probs, weights)[0, 0] == 0.5 * 0.1 + 0.5 * 0.2 + 0.5 * 0.7


def test_members_without_weight_are_not_used_but_still_checked() -> None:
    np.testing.assert_array_equal(weighted_average(PROBS, np.array([0.0, 1.0])), PROBS[1])
    broken = PROBS.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="member 0"):
        weighted_average(broken, np.array([0.0, 1.0]))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 20), st.integers(1, 5))
def test_the_mean_stays_between_the_members_and_sums_to_one(
    seed: int, members: int, rows: int, classes: int
) -> None:
    single, _, _ = member_probabilities(seed, members, rows, classes, zeros=True)
    probs = single.astype(np.float64)
    weights = np.random.default_rng(seed).dirichlet(np.ones(members))
    blend = weighted_average(probs, weights)
    assert blend.shape == (rows, classes)
    assert np.all(blend >= probs.min(axis=0) - 1e-9)
    assert np.all(blend <= probs.max(axis=0) + 1e-9)
    np.testing.assert_allclose(blend.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(blend, np.einsum("m,mnc->nc", weights, probs), atol=1e-12)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"shape \(2,\), got \(1,\)"),
        ([[0.5, 0.5]], r"got \(1, 2\)"),
        ([0.5, 0.25], "sum of 0.75"),
        ([1.5, -0.5], "non-negative"),
        ([np.nan, 1.0], "sum of nan"),
    ],
)
def test_weights_off_the_simplex_are_refused(weights: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weighted_average(PROBS, np.array(weights))
    with pytest.raises(ValueError, match=message):
        check_weights(np.array(weights), 2)


@pytest.mark.parametrize("probs", [PROBS[0], PROBS[:0], PROBS[:, :0], PROBS[..., None]])
def test_shapes_that_are_not_members_samples_classes_are_refused(probs: np.ndarray) -> None:
    with pytest.raises(ValueError, match="samples, classes"):
        weighted_average(probs, np.full(len(probs), 1 / max(1, len(probs))))


def test_the_true_class_matrix_picks_each_rows_label() -> None:
    matrix = true_class_matrix(PROBS, np.array([1, 0]))
    np.testing.assert_array_equal(matrix, [[0.5, 1.0], [0.75, 0.5]])
    assert matrix.dtype == np.float64


def test_blocks_cover_every_row_once() -> None:
    for n_rows, n_values in ((1, 1), (10, 3), (7, 100), (64, 8)):
        rows = np.arange(n_rows)
        parts = [rows[block] for block in row_blocks(n_rows, n_values, block_values=64)]
        np.testing.assert_array_equal(np.concatenate(parts), rows)
        assert all(len(part) <= max(1, 64 // n_values) for part in parts)


def test_more_rows_than_one_block_holds() -> None:
    probs, _, _ = member_probabilities(1, 2, BLOCK_VALUES // 3 + 100, 3)
    expected = 0.25 * probs[0].astype(np.float64) + 0.75 * probs[1].astype(np.float64)
    np.testing.assert_array_equal(weighted_average(probs, np.array([0.25, 0.75])), expected)
    probs[1, -1, 0] = np.nan
    with pytest.raises(ValueError, match="member 5: expected probabilities, got NaN"):
        check_member(5, probs[1])
