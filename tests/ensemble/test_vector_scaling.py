from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ensemble.temperature import apply_temperature, fit_temperature
from ensemble.vector_scaling import apply_vector_scaling, fit_vector_scaling
from tests.ensemble.made import member_probabilities


def loss(proba: np.ndarray, labels: np.ndarray, row_weights: np.ndarray | None = None) -> float:
    rows = -np.log(proba[np.arange(len(labels)), labels])
    return float(np.average(rows, weights=row_weights))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 80),
    classes=st.integers(1, 6),
    zeros=st.booleans(),
    l2=st.sampled_from((0.01, 3.0, 100.0)),
)
def test_in_sample_it_is_never_worse_than_one_temperature_or_nothing(
    seed: int, rows: int, classes: int, zeros: bool, l2: float
) -> None:
    probs, labels, _ = member_probabilities(seed, 1, rows, classes, zeros=zeros)
    proba, row_weights = probs[0], np.random.default_rng(seed).exponential(size=rows)
    scale, bias = fit_vector_scaling(proba, labels, row_weights=row_weights, l2=l2)
    assert scale.shape == bias.shape == (classes,)
    fitted = loss(apply_vector_scaling(proba, scale, bias), labels, row_weights)
    temperature = fit_temperature(proba, labels, row_weights=row_weights)
    for rival in (temperature, 1.0):
        floored = np.maximum(proba, 1e-12, dtype=np.float64)
        assert fitted <= loss(apply_temperature(floored, rival), labels, row_weights) + 1e-7


def test_the_optimum_is_that_of_a_general_solver() -> None:
    probs, labels, _ = member_probabilities(1, 1, 300, 3)
    start = 1 / fit_temperature(probs[0], labels)

    def objective(x: np.ndarray) -> float:
        pull = 3.0 / (2 * 300) * (np.sum((x[:3] - start) ** 2) + np.sum(x[3:] ** 2))
        return loss(apply_vector_scaling(probs[0], x[:3], x[3:]), labels) + pull

    solved = minimize(objective, np.array([start] * 3 + [0.0] * 3), options={"gtol": 1e-7})
    scale, bias = fit_vector_scaling(probs[0], labels)
    assert objective(np.concatenate([scale, bias])) == pytest.approx(solved.fun, abs=1e-7)
    np.testing.assert_allclose([*scale, *bias], solved.x, atol=2e-3)


def test_known_scales_and_biases_are_found() -> None:
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.ones(4), size=40_000)
    labels = (true.cumsum(axis=1) > rng.random((40_000, 1))).argmax(axis=1)
    scale, bias = np.array([1.0, 2.0, 0.5, 1.3]), np.array([0.4, 0.0, -0.4, 0.0])
    distorted = apply_vector_scaling(true, 1 / scale, -bias / scale)
    found = apply_vector_scaling(distorted, *fit_vector_scaling(distorted, labels))
    assert loss(found, labels) <= loss(true, labels) + 2e-3
    assert np.abs(found - true).mean() < 0.01


def test_a_class_of_few_rows_stays_near_the_others() -> None:
    probs, labels, _ = member_probabilities(0, 1, 400, 3)
    labels = np.where(labels == 2, 0, labels)
    labels[0] = 2
    scale, bias = fit_vector_scaling(probs[0], labels)
    assert np.abs(bias).max() < 10.0
    far_scale, far_bias = fit_vector_scaling(probs[0], labels, l2=0.0)
    assert np.abs(far_bias).max() + np.abs(far_scale).max() > np.abs(bias).max() + scale.max()


def test_a_strong_pull_leaves_one_temperature() -> None:
    probs, labels, _ = member_probabilities(4, 1, 200, 4)
    scale, bias = fit_vector_scaling(probs[0], labels, l2=1e9)
    np.testing.assert_allclose(scale, 1 / fit_temperature(probs[0], labels), rtol=1e-4)
    np.testing.assert_allclose(bias, 0.0, atol=1e-4)


def test_only_the_proportions_of_row_weights_matter_and_zero_is_absent() -> None:
    probs, labels, _ = member_probabilities(2, 1, 200, 3)
    weights = np.random.default_rng(0).integers(0, 3, size=200).astype(float)
    kept = weights > 0
    expected = fit_vector_scaling(probs[0][kept], labels[kept], row_weights=weights[kept])
    for same in (weights, weights * 100):
        found = fit_vector_scaling(probs[0], labels, row_weights=same)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_identity_returns_floored_probabilities() -> None:
    proba = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    same = apply_vector_scaling(proba, np.ones(3), np.zeros(3))
    assert same.dtype == np.float64
    np.testing.assert_allclose(same, proba, atol=1e-11)


def test_worked_value() -> None:
    # Odds of 9 : 1 squared and times e: 81 e : 1.
    scaled = apply_vector_scaling(
        np.array([[0.9, 0.1]]), np.array([2.0, 2.0]), np.array([1.0, 0.0])
    )
    assert scaled[0, 0] / scaled[0, 1] == pytest.approx(81 * np.e)


def test_what_does_not_fit_is_refused() -> None:
    proba, labels = np.full((4, 2), 0.5), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="a scale and a bias for each of the classes"):
        apply_vector_scaling(proba, np.ones(3), np.zeros(3))
    with pytest.raises(ValueError, match="known label"):
        fit_vector_scaling(proba, np.array([0, 1, 2, 0]))
    with pytest.raises(ValueError, match="l2 of 0 or more"):
        fit_vector_scaling(proba, labels, l2=-1.0)
    with pytest.raises(ValueError, match="row weight"):
        fit_vector_scaling(proba, labels, row_weights=np.zeros(4))
