from __future__ import annotations

from collections.abc import Callable

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


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    members=st.integers(1, 20),
    rows=st.integers(1, 60),
    l2=st.sampled_from((1e-6, 1e-3, 0.1, 10.0)),
)
def test_a_pull_keeps_its_certificate_and_no_weights_beat_it(
    seed: int, kind: str, members: int, rows: int, l2: float
) -> None:
    p_true = true_class_probabilities(seed, kind, members, rows)
    rng = np.random.default_rng(seed)
    row_weights = rng.exponential(size=rows)
    best, gap = fit_convex(p_true, l2=l2, row_weights=row_weights)
    assert best.sum() == pytest.approx(1.0, abs=1e-12)
    assert best.min() >= 0.0
    assert gap <= 1e-6
    again = convex_certificate(p_true, best, l2=l2, row_weights=row_weights)
    assert again == pytest.approx(gap, abs=1e-9)
    for concentration in (0.1, 1.0, 10.0):
        rival = rng.dirichlet(np.full(members, concentration))
        certificate = convex_certificate(p_true, rival, l2=l2, row_weights=row_weights)
        advantage = objective(p_true, rival, l2, row_weights) - objective(
            p_true, best, l2, row_weights
        )
        assert -1e-6 <= advantage <= certificate + 1e-6


def objective(p_true: np.ndarray, weights: np.ndarray, l2: float, row_weights: np.ndarray) -> float:
    members = len(weights)
    loss = -np.average(np.log(weights @ np.maximum(p_true, 1e-7)), weights=row_weights)
    return float(loss + l2 / 2 * members * np.sum((weights - 1 / members) ** 2))


def test_the_pulled_optimum_is_that_of_a_general_solver() -> None:
    p_true = true_class_probabilities(6, "even", 6, 200)
    row_weights = np.random.default_rng(1).exponential(size=200)
    for l2 in (1e-3, 1e-2, 0.1):
        solved = minimize(
            objective_in(p_true, l2, row_weights),
            np.full(6, 1 / 6),
            bounds=[(0, 1)] * 6,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-13, "maxiter": 500},
        )
        fitted, _ = fit_convex(p_true, l2=l2, row_weights=row_weights)
        np.testing.assert_allclose(fitted, solved.x, atol=2e-4)


def objective_in(
    p_true: np.ndarray, l2: float, row_weights: np.ndarray
) -> Callable[[np.ndarray], float]:
    return lambda weights: objective(p_true, weights, l2, row_weights)


def test_a_strong_pull_makes_weights_equal_and_none_leaves_them() -> None:
    p_true = true_class_probabilities(3, "even", 7, 300)
    np.testing.assert_allclose(fit_convex(p_true, l2=1e6)[0], np.full(7, 1 / 7), atol=1e-5)
    np.testing.assert_allclose(fit_convex(p_true, l2=1e-9)[0], fit_convex(p_true)[0], atol=1e-4)


def test_the_pull_counts_members_in_nats() -> None:
    # Two members that say the same: all weight on one is half the effective members, l2 / 2 nats.
    p_true = np.full((2, 5), 0.5)
    lone = convex_certificate(p_true, np.array([1.0, 0.0]), l2=0.25)
    even, gap = fit_convex(p_true, l2=0.25)
    np.testing.assert_allclose(even, [0.5, 0.5])
    assert gap <= 1e-6
    ones = np.ones(5)
    assert objective(p_true, np.array([1.0, 0.0]), 0.25, ones) - objective(
        p_true, even, 0.25, ones
    ) == pytest.approx(0.125)
    assert lone == pytest.approx(0.5)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS), l2=st.sampled_from((0.0, 0.05)))
def test_counts_as_row_weights_are_repeated_rows(seed: int, kind: str, l2: float) -> None:
    rng = np.random.default_rng(seed)
    p_true = true_class_probabilities(seed, kind, 5, 40)
    counts = rng.integers(0, 4, size=40)
    counts[0] = 1
    weights, gap = fit_convex(p_true, l2=l2, row_weights=counts.astype(float))
    repeated = np.repeat(p_true, counts, axis=1)
    assert convex_certificate(repeated, weights, l2=l2) == pytest.approx(gap, abs=1e-9)
    scaled, _ = fit_convex(p_true, l2=l2, row_weights=counts * 1e-3)
    np.testing.assert_allclose(scaled, weights, atol=1e-3 if kind == "nearly equal" else 1e-5)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), members=st.integers(2, 30), l2=st.sampled_from((0.0, 0.01)))
def test_permuted_members_have_permuted_weights(seed: int, members: int, l2: float) -> None:
    p_true = true_class_probabilities(seed, "even", members, 100)
    order = np.random.default_rng(seed).permutation(members)
    np.testing.assert_allclose(
        fit_convex(p_true[order], l2=l2)[0], fit_convex(p_true, l2=l2)[0][order], atol=1e-4
    )


@pytest.mark.parametrize("row_weights", [None, "some"])
@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_many_rows_are_solved_from_a_sample_and_certified_on_all(
    l2: float, row_weights: str | None
) -> None:
    rng = np.random.default_rng(4)
    shared = rng.random(20_000)
    p_true = (0.5 * rng.random((40, 20_000)) + 0.5 * shared).astype(np.float32)
    counts = rng.integers(0, 3, size=20_000).astype(float) if row_weights else None
    weights, gap = fit_convex(p_true, l2=l2, row_weights=counts)
    assert gap <= 1e-6
    certificate = convex_certificate(p_true.astype(float), weights, l2=l2, row_weights=counts)
    assert certificate == pytest.approx(gap, abs=1e-9)


def test_rows_that_a_sample_would_miss_still_count() -> None:
    # Every eighth row has no weight, or all that the second member is good for.
    p_true = np.full((2, 16_000), 0.5)
    p_true[1] = 0.25
    p_true[1, ::8] = 1.0
    row_weights = np.ones(16_000)
    np.testing.assert_allclose(fit_convex(p_true)[0].sum(), 1.0)
    assert fit_convex(p_true)[1] <= 1e-6
    row_weights[::8] = 0.0
    weights, gap = fit_convex(p_true, row_weights=row_weights)
    np.testing.assert_array_equal(weights, [1.0, 0.0])
    assert gap <= 1e-6


@pytest.mark.parametrize("l2", [0.0, 1e-3])
@pytest.mark.parametrize("row_weights", [None, "every second"])
def test_who_needs_all_members_gets_them_from_some_rows_or_the_others(
    l2: float, row_weights: str | None
) -> None:
    # Each of 20 members is good on rows of its own. The rows that would show the curvature first
    # may have no weight at all.
    rows = np.arange(40_000)
    p_true = np.where(rows // 2 % 20 == np.arange(20)[:, None], 0.9, 0.3)
    counts = (rows % 2).astype(float) if row_weights else None
    weights, gap = fit_convex(p_true, l2=l2, row_weights=counts)
    np.testing.assert_allclose(weights, np.full(20, 0.05), atol=1e-5)
    assert gap <= 1e-6


def test_float32_read_only_and_transposed_matrices_give_the_same_weights() -> None:
    p_true = true_class_probabilities(8, "even", 6, 300).astype(np.float32)
    expected, _ = fit_convex(p_true.astype(float))
    read_only = p_true.copy()
    read_only.setflags(write=False)
    for same in (
        p_true,
        read_only,
        np.asfortranarray(p_true),
        np.repeat(p_true, 2, axis=1)[:, ::2],
    ):
        np.testing.assert_allclose(fit_convex(same)[0], expected, atol=1e-9)


def test_one_member_has_weight_one_and_copies_share() -> None:
    p_true = true_class_probabilities(1, "even", 1, 30)
    np.testing.assert_array_equal(fit_convex(p_true)[0], [1.0])
    weights, gap = fit_convex(np.repeat(p_true, 3, axis=0))
    assert weights.sum() == pytest.approx(1.0)
    assert gap <= 1e-6


@pytest.mark.parametrize("l2", [-0.1, np.nan, np.inf])
def test_what_is_no_pull_is_refused(l2: float) -> None:
    with pytest.raises(ValueError, match="l2 of 0 or more"):
        fit_convex(np.ones((2, 3)), l2=l2)


def test_impossible_row_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="row weight"):
        fit_convex(np.ones((2, 3)), row_weights=np.array([1.0, -1.0, 1.0]))


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
