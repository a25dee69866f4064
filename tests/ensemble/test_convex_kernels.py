from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.convex_kernels import active_set, products_over_rows, slopes_of_blend

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
def test_a_blend_is_of_floored_rows_and_its_slopes_are_a_matrix_product(
    seed: int, members: int, rows: int, single: bool
) -> None:
    p_true = matrix(seed, members, rows, single)
    rng = np.random.default_rng(seed)
    picked = rng.permutation(members)[: members // 2 + 1]
    weights = rng.random(len(picked))
    shares = rng.random(rows)
    inverse, slopes = slopes_of_blend(p_true, picked, weights, shares)
    blend = weights @ floored(p_true)[picked]
    np.testing.assert_allclose(inverse, 1.0 / blend, rtol=1e-12)
    np.testing.assert_allclose(slopes, floored(p_true) @ (shares / blend), rtol=1e-12)


@settings(deadline=None, max_examples=30)
@sizes
def test_products_over_rows_are_those_of_every_pair(
    seed: int, members: int, rows: int, single: bool
) -> None:
    p_true = matrix(seed, members, rows, single)
    picked = np.random.default_rng(seed).permutation(members)[: members // 2 + 1]
    for stride in (1, 3):
        values = floored(p_true)[picked, ::stride]
        roots, inverse = np.random.default_rng(seed).random((2, rows))
        scaled = values * (roots * inverse)[::stride]
        products = products_over_rows(p_true, picked, roots, inverse, stride)
        np.testing.assert_allclose(products, scaled @ scaled.T, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_is_not_floored_away(dtype: type) -> None:
    p_true = np.full((2, 9), 0.5, dtype=dtype)
    p_true[1, 4] = np.nan
    inverse, slopes = slopes_of_blend(p_true, np.array([0]), np.ones(1), np.ones(9))
    np.testing.assert_array_equal(inverse, np.full(9, 2.0))
    assert slopes[0] == 9.0
    assert np.isnan(slopes[1])


def test_the_active_set_is_who_has_weight_and_who_promises_most() -> None:
    weights = np.array([0.5, 0.0, 0.5, 0.0, 0.0, 0.0])
    gradient = np.array([-1.0, -0.5, -1.0, -3.0, -2.0, -4.0])
    np.testing.assert_array_equal(active_set(weights, gradient, 1), [0, 2, 3, 5])
    np.testing.assert_array_equal(active_set(weights, gradient, 8), [0, 2, 3, 4, 5])
    np.testing.assert_array_equal(active_set(np.eye(6)[5], gradient, 8), [5])
