from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.kernels import readable
from ensemble.kernels_log_loss import (
    BLOCK_ROWS,
    LANES,
    highest_bits,
    log_losses,
    weighted_log_losses,
)
from ensemble.metrics import LOG_LOSS_FLOOR

# Around every edge of lanes, four deals at once, and blocks.
ROWS = (1, 2, LANES - 1, LANES, 4 * LANES + 1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 70, 5000)


def plain(
    p_true: np.ndarray, p_sum: np.ndarray, size: int, row_weights: np.ndarray | None
) -> np.ndarray:
    mean = (p_sum + p_true.astype(np.float64)) / size
    return np.average(-np.log(np.maximum(mean, LOG_LOSS_FLOOR)), axis=1, weights=row_weights)


def made(seed: int, members: int, rows: int, dtype: type) -> np.ndarray:
    """Probabilities of every size, also 0, 1, and below the floor."""
    rng = np.random.default_rng(seed)
    p_true = 10.0 ** -rng.choice([0.0, 0.01, 0.5, 3.0, 12.0, 300.0], size=(members, rows))
    p_true *= rng.choice([0.0, 1.0], size=p_true.shape, p=[0.05, 0.95])
    return readable(p_true.astype(dtype))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1, 2, 3, 25, 1000]))
def test_losses_are_numpys_to_twelve_digits(rows: int, dtype: type, seed: int, size: int) -> None:
    p_true = made(seed, 3, rows, dtype)
    rng = np.random.default_rng(seed)
    p_sum = (size - 1) * rng.random(rows) ** 3
    weights = rng.exponential(size=rows)
    weights[rng.random(rows) < 0.3] = 0.0
    weights[0] = 1.0
    members = readable(np.arange(3))
    got = log_losses(p_true, p_sum, size, members, LOG_LOSS_FLOOR)
    np.testing.assert_allclose(got, plain(p_true, p_sum, size, None), rtol=1e-12, atol=1e-15)
    got = weighted_log_losses(p_true, p_sum, size, members, LOG_LOSS_FLOOR, readable(weights))
    np.testing.assert_allclose(got, plain(p_true, p_sum, size, weights), rtol=1e-12, atol=1e-15)


def test_only_the_wanted_members_are_scored() -> None:
    p_true = made(0, 5, 300, np.float32)
    every = log_losses(p_true, np.zeros(300), 1, readable(np.arange(5)), LOG_LOSS_FLOOR)
    some = log_losses(p_true, np.zeros(300), 1, readable(np.array([4, 1])), LOG_LOSS_FLOOR)
    np.testing.assert_array_equal(some, every[[4, 1]])


def test_all_wrong_rows_cost_the_floor_and_all_right_ones_nothing() -> None:
    p_true = readable(np.repeat([[0.0], [1.0]], 3000, axis=1))
    members = readable(np.arange(2))
    losses = log_losses(p_true, np.zeros(3000), 1, members, LOG_LOSS_FLOOR)
    np.testing.assert_allclose(losses, [-np.log(LOG_LOSS_FLOOR), 0.0], rtol=1e-13)
    assert not np.signbit(losses).any()


@pytest.mark.parametrize(
    ("value", "is_probability"),
    [(0.0, True), (1.0, True), (1e-300, True), (np.nan, False), (-1e-9, False), (1.5, False)],
)
def test_the_highest_bits_show_what_is_no_probability(value: float, is_probability: bool) -> None:
    limit = int(np.float64(1.0).view(np.uint64))
    values = np.full(100, 0.5)
    values[37] = value
    assert (highest_bits(readable(values.view(np.uint64))) <= limit) == is_probability
