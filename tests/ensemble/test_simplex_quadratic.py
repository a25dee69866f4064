from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.simplex_quadratic import simplex_quadratic_optimum


def quadratic(
    hessian: np.ndarray, gradient: np.ndarray, start: np.ndarray, value: np.ndarray
) -> float:
    step = value - start
    return float(gradient @ step + step @ hessian @ step / 2)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    members=st.integers(1, 25),
    rank=st.integers(1, 30),
    vertex=st.booleans(),
)
def test_the_conditions_of_an_optimum_hold(
    seed: int, members: int, rank: int, vertex: bool
) -> None:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(members, rank)) * rng.uniform(0.1, 10, size=(members, 1))
    # As with log loss: without curvature along a direction there is no slope along it either.
    hessian, gradient = factor @ factor.T, factor @ rng.normal(size=rank)
    start = rng.dirichlet(np.ones(members))
    if vertex:
        start = np.eye(members)[rng.integers(members)]
    best = simplex_quadratic_optimum(hessian, gradient, start)
    assert best.sum() == pytest.approx(1.0, abs=1e-12)
    assert best.min() >= 0.0
    slope = gradient + hessian @ (best - start)
    scale = np.abs(hessian).max() + np.abs(gradient).max()
    assert slope @ best - slope.min() <= 1e-6 * scale
    assert quadratic(hessian, gradient, start, best) <= 1e-9 * scale


def test_worked_values() -> None:
    # Without curvature between them, weight moves until the slopes meet: 2 (v1 - v0) = 1.
    start = np.array([0.5, 0.5])
    best = simplex_quadratic_optimum(np.eye(2) * 2.0, np.array([1.0, 0.0]), start)
    np.testing.assert_allclose(best, [0.25, 0.75])
    best = simplex_quadratic_optimum(np.eye(2) * 2.0, np.array([9.0, 0.0]), start)
    np.testing.assert_array_equal(best, [0.0, 1.0])


def test_copies_are_no_obstacle() -> None:
    hessian = np.ones((4, 4))
    best = simplex_quadratic_optimum(hessian, np.zeros(4), np.full(4, 0.25))
    assert best.sum() == pytest.approx(1.0)
    assert np.isfinite(best).all()
