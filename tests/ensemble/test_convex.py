from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ensemble.convex import convex_certificate, convex_weights, fit_convex
from ensemble.metrics import ACCURACY, LOG_LOSS
from tests.ensemble.made import member_probabilities

KINDS = ("even", "powers", "zeros and ones", "nearly equal", "rarely right")


def true_class_probabilities(seed: int, kind: str, members: int, rows: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "even":
        return rng.random((members, rows))
    if kind == "powers":
        return 10.0 ** rng.uniform(-9, 0, (members, rows))
    if kind == "zeros and ones":
        return (rng.random((members, rows)) < 0.3).astype(float)
    if kind == "nearly equal":
        noise = 1e-9 * rng.normal(size=(members, rows))
        return np.clip(rng.random((1, rows)) + noise, 0.0, 1.0)
    return np.where(rng.random((members, rows)) < 0.1, rng.random((members, rows)), 0.0)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    members=st.integers(1, 40),
    rows=st.integers(1, 60),
)
def test_the_gap_is_at_most_a_millionth_and_certified(
    seed: int, kind: str, members: int, rows: int
) -> None:
    p_true = true_class_probabilities(seed, kind, members, rows)
    weights, gap = fit_convex(p_true)
    assert np.all(weights >= 0)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert gap <= 1e-6
    assert convex_certificate(p_true, weights) == pytest.approx(gap, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(5, 60))
def test_no_weights_beat_the_optimum_by_more_than_the_certificate_allows(
    seed: int, members: int, rows: int
) -> None:
    p_true = true_class_probabilities(seed, "even", members, rows)
    rng = np.random.default_rng(seed)
    best, _ = fit_convex(p_true)
    floored = np.maximum(p_true, 1e-7)
    for _ in range(10):
        rival = rng.dirichlet(np.full(members, 0.5))
        advantage = np.mean(np.log(best @ floored)) - np.mean(np.log(rival @ floored))
        assert -1e-6 <= advantage <= convex_certificate(p_true, rival) + 1e-6


def test_the_optimum_is_that_of_a_general_solver() -> None:
    p_true = true_class_probabilities(5, "even", 6, 200)
    solved = minimize(
        lambda w: -np.mean(np.log(w @ p_true)),
        np.full(6, 1 / 6),
        jac=lambda w: -(p_true @ (1 / (w @ p_true))) / 200,
        bounds=[(0, 1)] * 6,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(fit_convex(p_true)[0], solved.x, atol=1e-4)


def test_worked_values() -> None:
    # Member 0 is right on three rows of four, member 1 on the fourth: weights 3/4 and 1/4.
    p_true = np.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    weights, gap = fit_convex(p_true)
    np.testing.assert_allclose(weights, [0.75, 0.25], atol=1e-6)
    assert gap <= 1e-6
    assert convex_certificate(p_true, np.array([0.5, 0.5])) == pytest.approx(0.5, abs=1e-6)


def test_a_useless_member_gets_exactly_nothing() -> None:
    p_true = np.array([[0.5, 0.75], [0.25, 0.5], [0.75, 0.5]])
    assert fit_convex(p_true)[0][1] == 0.0


def test_hundreds_of_members_find_the_few_that_matter() -> None:
    probs, labels, _ = member_probabilities(2, 300, 400, 5)
    p_true = probs[:, np.arange(400), labels]
    weights, gap = fit_convex(p_true)
    assert gap <= 1e-6
    assert 1 < np.count_nonzero(weights) < 100
    assert np.all((weights == 0) | (weights >= 1e-6))


def test_the_metric_does_not_change_the_weights() -> None:
    probs, labels, _ = member_probabilities(2, 4, 100, 5)
    np.testing.assert_array_equal(
        convex_weights(probs, labels, ACCURACY), convex_weights(probs, labels, LOG_LOSS)
    )


def test_more_of_the_same_rows_changes_nothing() -> None:
    p_true = true_class_probabilities(9, "even", 5, 80)
    np.testing.assert_allclose(fit_convex(np.tile(p_true, 3))[0], fit_convex(p_true)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("p_true", "message"),
    [
        (np.ones(3), r"\(members, samples\), got \(3,\)"),
        (np.ones((0, 3)), "members, samples"),
        (np.array([[0.5, np.nan]]), "NaN"),
    ],
)
def test_what_is_no_matrix_of_probabilities_is_refused(p_true: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_convex(p_true)
