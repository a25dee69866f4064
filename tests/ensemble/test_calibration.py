from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ensemble.calibration import apply_temperature, fit_temperature
from ensemble.metrics import LOG_LOSS
from tests.ensemble.made import member_probabilities

sizes = given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 80),
    classes=st.integers(2, 6),
    zeros=st.booleans(),
)


def loss(proba: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    logits = np.log(np.maximum(proba.astype(np.float64), 1e-12)) / temperature
    top = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return float(np.mean(total - logits[np.arange(len(labels)), labels]))


@settings(deadline=None, max_examples=100)
@sizes
def test_no_temperature_within_the_bounds_is_better(
    seed: int, rows: int, classes: int, zeros: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, 1, rows, classes, zeros=zeros)
    fitted = fit_temperature(probs[0], labels)
    assert 0.05 <= fitted <= 20.0
    best = loss(probs[0], labels, fitted)
    for rival in (1.0, 0.05, 20.0, fitted * 1.02, fitted / 1.02, *np.geomspace(0.05, 20, 15)):
        if 0.05 <= rival <= 20.0:
            assert best <= loss(probs[0], labels, rival) + 1e-7


@pytest.mark.parametrize("rows", [30, 5000])
def test_the_temperature_is_that_of_a_general_solver(rows: int) -> None:
    for seed in range(4):
        probs, labels, _ = member_probabilities(seed, 1, rows, 4)
        solved = minimize_scalar(
            lambda s, p=probs[0], y=labels: loss(p, y, float(np.exp(s))),
            bounds=(np.log(0.05), np.log(20)),
            method="bounded",
            options={"xatol": 1e-10},
        )
        assert fit_temperature(probs[0], labels) == pytest.approx(np.exp(solved.x), rel=1e-5)


def test_a_known_overconfidence_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)) * 2
    calibrated = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (calibrated.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    sharpened = apply_temperature(calibrated, 0.4)
    assert fit_temperature(calibrated, labels) == pytest.approx(1.0, abs=0.03)
    assert fit_temperature(sharpened, labels) == pytest.approx(2.5, abs=0.08)


def test_worked_value() -> None:
    # Right in 3 of 4 rows at 90 % certainty: the best certainty is 75 %, ln 9 / T = ln 3.
    proba = np.tile([0.9, 0.1], (4, 1))
    assert fit_temperature(proba, np.array([0, 0, 0, 1])) == pytest.approx(2.0, abs=1e-6)
    np.testing.assert_allclose(apply_temperature(proba, 2.0)[0], [0.75, 0.25])


def test_exact_zeros_and_ones_are_no_obstacle() -> None:
    certain = np.eye(3)[[0, 1, 2, 0]]
    assert fit_temperature(certain, np.array([0, 1, 2, 0])) == 1.0
    half_wrong = fit_temperature(certain, np.array([0, 1, 0, 1]))
    assert half_wrong > 5.0
    tempered = apply_temperature(certain, half_wrong)
    assert np.all(np.isfinite(tempered))
    assert LOG_LOSS(np.array([0, 1, 0, 1]), tempered) < 2.0


def test_the_bounds_are_reached_and_kept() -> None:
    proba = np.array([[0.6, 0.4], [0.7, 0.3]])
    assert fit_temperature(proba, np.array([1, 1])) == 20.0
    low = fit_temperature(proba, np.array([0, 0]))
    assert 0.05 <= low <= 0.051


def test_where_nothing_can_be_gained_the_temperature_is_one() -> None:
    assert fit_temperature(np.full((5, 4), 0.25), np.array([0, 1, 2, 3, 0])) == 1.0
    assert fit_temperature(np.ones((5, 1)), np.zeros(5, int)) == 1.0


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.floats(0.05, 20.0),
    classes=st.integers(1, 6),
    zeros=st.booleans(),
)
def test_tempered_rows_are_probabilities_in_the_same_order(
    seed: int, temperature: float, classes: int, zeros: bool
) -> None:
    probs, _, _ = member_probabilities(seed, 1, 20, classes, zeros=zeros)
    tempered = apply_temperature(probs[0], temperature)
    assert tempered.dtype == np.float64
    np.testing.assert_allclose(tempered.sum(axis=1), 1.0, atol=1e-12)
    rows = np.arange(20)
    assert np.all(tempered[rows, probs[0].argmax(axis=1)] >= tempered.max(axis=1) - 1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 5.0))
def test_a_temperature_and_its_inverse_undo_each_other(seed: int, temperature: float) -> None:
    probs, _, _ = member_probabilities(seed, 1, 20, 4)
    proba = np.maximum(probs[0].astype(np.float64), 1e-2)
    there = apply_temperature(proba, temperature)
    back = apply_temperature(there, 1.0 / temperature)
    np.testing.assert_allclose(back, proba / proba.sum(axis=1, keepdims=True), atol=1e-6)


def test_temperature_one_returns_the_same_probabilities_renormalised() -> None:
    proba = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.25]])
    np.testing.assert_array_equal(
        apply_temperature(proba, 1.0), [[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    )
    assert proba[1].sum() == 0.75


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_what_is_no_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature above 0"):
        apply_temperature(np.full((1, 2), 0.5), temperature)


def test_rows_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(ValueError, match="known label"):
        fit_temperature(np.full((2, 2), 0.5), np.array([0, -1]))
    with pytest.raises(ValueError, match="NaN"):
        fit_temperature(np.full((2, 2), np.nan), np.array([0, 1]))
