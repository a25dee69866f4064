from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from ensemble.average import weighted_average
from ensemble.class_weights import _Loss, class_mean, counted_rows, fit_class_weights
from ensemble.convex import convex_weights
from ensemble.metrics import LOG_LOSS
from tests.ensemble.made import member_probabilities

seeds = st.integers(0, 2**32 - 1)


def _specialists(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Two members over three classes: the first knows class 0, the second class 1."""
    labels = np.arange(rows) % 3
    rng = np.random.default_rng(0)
    logits = 0.5 * rng.normal(size=(2, rows, 3))
    logits[:, np.arange(rows), labels] += 0.5
    for member in range(2):
        logits[member, labels == member, member] += 2.0
    probs = np.exp(logits)
    return (probs / probs.sum(axis=2, keepdims=True)).astype(np.float32), labels


def test_worked_value() -> None:
    probs = np.array([[[0.5, 0.5]], [[0.25, 0.75]]])
    weights = np.array([[1.0, 0.5], [0.0, 0.5]])
    np.testing.assert_allclose(class_mean(probs, weights), [[0.5 / 1.125, 0.625 / 1.125]])


def test_members_speak_for_the_classes_they_know() -> None:
    probs, labels = _specialists(3000)
    weights = fit_class_weights(probs, labels)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)
    assert weights[0, 0] > 0.6 > 0.4 > weights[0, 1]
    same = weighted_average(probs, convex_weights(probs, labels))
    blend = class_mean(probs, weights)
    assert LOG_LOSS(labels, blend) < LOG_LOSS(labels, same) - 0.005


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(1, 5), st.integers(2, 60), st.sampled_from([0.0, 1.0, 10.0]))
def test_in_sample_it_is_never_worse_than_the_convex_optimum(
    seed: int, members: int, rows: int, l2: float
) -> None:
    probs, labels, _ = member_probabilities(seed, members, rows, 3)
    same = weighted_average(probs, convex_weights(probs, labels))
    blend = class_mean(probs, fit_class_weights(probs, labels, l2=l2))
    assert LOG_LOSS(labels, blend) <= LOG_LOSS(labels, same) + 1e-6


def test_a_strong_pull_leaves_the_convex_optimum() -> None:
    probs, labels, _ = member_probabilities(2, 4, 200, 3)
    weights = fit_class_weights(probs, labels, l2=1e9)
    expected = np.tile(convex_weights(probs, labels)[:, None], (1, 3))
    np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_a_rare_class_stays_nearer_to_the_common_weights() -> None:
    probs, labels = _specialists(3000)
    rare = (labels != 1) | (np.arange(3000) < 30)
    frequent = fit_class_weights(probs, labels)
    scarce = fit_class_weights(probs[:, rare], labels[rare])
    same = convex_weights(probs[:, rare], labels[rare])
    assert abs(scarce[1, 1] - same[1]) < abs(frequent[1, 1] - 0.5)


def test_weights_that_are_the_same_for_all_classes_give_the_weighted_mean() -> None:
    probs, _, _ = member_probabilities(1, 3, 50, 4, zeros=True)
    weights = np.array([0.2, 0.3, 0.5])
    expected = weighted_average(probs.astype(np.float64), weights)
    np.testing.assert_allclose(class_mean(probs, np.tile(weights[:, None], 4)), expected, atol=1e-6)


def test_a_row_to_which_nobody_may_speak_is_uniform() -> None:
    probs = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    np.testing.assert_array_equal(
        class_mean(probs, np.array([[0.0, 1.0], [1.0, 0.0]])), [[0.5] * 2]
    )


def test_the_gradient_is_that_of_the_loss() -> None:
    single, labels, _ = member_probabilities(3, 3, 40, 4)
    probs = single.astype(np.float64)
    rng = np.random.default_rng(0)
    p_true = probs[:, np.arange(40), labels]
    same, shares = np.array([0.2, 0.3, 0.5]), rng.dirichlet(np.ones(40))
    loss = _Loss(probs, np.arange(3), labels, shares, p_true, same, 0.01)
    point = 0.5 * rng.normal(size=12)
    numeric = approx_fprime(point, lambda at: loss(at)[0], 1e-7)
    np.testing.assert_allclose(loss(point)[1], numeric, atol=1e-6)


def test_rows_are_counted_as_repeated_but_never_as_less_than_there_are() -> None:
    assert counted_rows(None, 7) == 7
    assert counted_rows(np.array([2.0, 3.0, 0.0]), 3) == 5
    assert counted_rows(np.full(10, 0.1), 10) == 10


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((3, 2)), r"shape \(2, 2\), got \(3, 2\)"),
        (np.array([[0.5, -0.5], [0.5, 1.5]]), "at least 0"),
        (np.array([[1.0, np.nan], [0.0, 1.0]]), "finite"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), "class 1"),
    ],
)
def test_class_weights_that_are_none_are_refused(weights: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_mean(np.full((2, 3, 2), 0.5), weights)


def test_a_negative_pull_is_refused() -> None:
    with pytest.raises(ValueError, match="l2 of at least 0, got -1"):
        fit_class_weights(np.full((2, 3, 2), 0.5), np.zeros(3, int), l2=-1.0)
