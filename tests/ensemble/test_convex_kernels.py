from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.convex_kernels import blend_rows, products_over_rows, sums_over_rows

sizes = given(
    seed=st.integers(0, 2**32 - 1),
    members=st.integers(1, 11),
    rows=st.sampled_from((1, 7, 255, 256, 257, 2048, 5000)),
    single=st.booleans(),
)


def matrix(seed: int, members: int, rows: int, single: bool) -> np.ndarray:
    values = np.random.default_rng(seed).random((members, rows)) ** 20
    return values.astype(np.float32 if single else np.float64)


def floored(p_true: np.ndarray) -> np.ndarray:
    return np.maximum(p_true.astype(np.float64), 1e-7)


@settings(deadline=None, max_examples=30)
@sizes
def test_a_blend_is_the_weighted_sum_of_floored_rows(
    seed: int, members: int, rows: int, single: bool
) -> None:
    p_true = matrix(seed, members, rows, single)
    picked = np.random.default_rng(seed).permutation(members)[: members // 2 + 1]
    weights = np.random.default_rng(seed).random(len(picked))
    np.testing.assert_allclose(
        blend_rows(p_true, picked, weights), weights @ floored(p_true)[picked], rtol=1e-12
    )


@settings(deadline=None, max_examples=30)
@sizes
def test_sums_over_rows_are_a_matrix_product(
    seed: int, members: int, rows: int, single: bool
) -> None:
    p_true = matrix(seed, members, rows, single)
    factors = np.random.default_rng(seed).random(rows)
    np.testing.assert_allclose(
        sums_over_rows(p_true, factors), floored(p_true) @ factors, rtol=1e-12
    )


@settings(deadline=None, max_examples=30)
@sizes
def test_products_over_rows_are_those_of_every_pair(
    seed: int, members: int, rows: int, single: bool
) -> None:
    p_true = matrix(seed, members, rows, single)
    picked = np.random.default_rng(seed).permutation(members)[: members // 2 + 1]
    for stride in (1, 3):
        values = floored(p_true)[picked, ::stride]
        factors = np.random.default_rng(seed).random(values.shape[1])
        scaled = values * factors
        np.testing.assert_allclose(
            products_over_rows(p_true, picked, factors, stride), scaled @ scaled.T, rtol=1e-12
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_is_not_floored_away(dtype: type) -> None:
    p_true = np.full((2, 9), 0.5, dtype=dtype)
    p_true[1, 4] = np.nan
    sums = sums_over_rows(p_true, np.ones(9))
    assert sums[0] == 4.5
    assert np.isnan(sums[1])
