from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ensemble.metrics import LOG_LOSS
from ensemble.temperature import (
    apply_temperature,
    fit_temperature,
    fit_temperatures_without,
    temper,
)
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


def weighted_loss(
    proba: np.ndarray, labels: np.ndarray, temperature: float, row_weights: np.ndarray
) -> float:
    logits = np.log(np.maximum(proba.astype(np.float64), 1e-12)) / temperature
    top = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    rows = total - logits[np.arange(len(labels)), labels]
    return float(np.average(rows, weights=row_weights))


@settings(deadline=None, max_examples=60)
@sizes
def test_counts_as_row_weights_are_repeated_rows(
    seed: int, rows: int, classes: int, zeros: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, 1, rows, classes, zeros=zeros)
    counts = np.random.default_rng(seed).integers(0, 4, size=rows)
    counts[0] = 1
    weighted = fit_temperature(probs[0], labels, row_weights=counts.astype(float))
    scaled = fit_temperature(probs[0], labels, row_weights=counts * 7.5)
    repeated = fit_temperature(np.repeat(probs[0], counts, axis=0), np.repeat(labels, counts))
    expected = weighted_loss(probs[0], labels, repeated, counts)
    for fitted in (weighted, scaled):
        assert weighted_loss(probs[0], labels, fitted, counts) == pytest.approx(expected, abs=1e-8)


@settings(deadline=None, max_examples=60)
@sizes
def test_every_set_of_folds_has_the_temperature_of_a_fit_of_its_own(
    seed: int, rows: int, classes: int, zeros: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, 1, rows + 3, classes, zeros=zeros)
    rng = np.random.default_rng(seed)
    folds = rng.permutation(np.arange(rows + 3) % 3) * 10 - 7
    row_weights = rng.exponential(size=rows + 3)
    sets = [frozenset[int](), frozenset([-7]), frozenset([3, 13]), frozenset([99])]
    fitted = fit_temperatures_without(probs[0], labels, folds, sets, row_weights=row_weights)
    assert fitted.shape == (4,)
    for without, temperature in zip(sets, fitted, strict=True):
        kept = ~np.isin(folds, list(without))
        own = probs[0][kept], labels[kept]
        alone = fit_temperature(*own, row_weights=row_weights[kept])
        assert weighted_loss(*own, temperature, row_weights[kept]) == pytest.approx(
            weighted_loss(*own, alone, row_weights[kept]), abs=1e-9
        )


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 2.5])
def test_sets_of_many_rows_share_passes_and_agree_with_fits_of_their_own(sharpness: float) -> None:
    probs, labels, _ = member_probabilities(3, 1, 12_000, 6)
    proba = apply_temperature(probs[0], 1 / sharpness)
    folds = np.random.default_rng(0).permutation(np.arange(12_000) % 5)
    sets = [frozenset(one) for size in range(3) for one in combinations(range(5), size)]
    fitted = fit_temperatures_without(proba, labels, folds, sets)
    for without, temperature in zip(sets, fitted, strict=True):
        kept = ~np.isin(folds, list(without))
        assert temperature == pytest.approx(fit_temperature(proba[kept], labels[kept]), rel=1e-5)


@pytest.mark.parametrize("rows", [60, 6000])
def test_a_held_out_fold_has_no_say_in_its_temperature(rows: int) -> None:
    probs, labels, _ = member_probabilities(5, 1, rows, 4)
    folds = np.arange(rows) % 4
    sets = [frozenset([fold]) for fold in range(4)] + [frozenset([0, 2])]
    before = fit_temperatures_without(probs[0], labels, folds, sets)
    for which, without in enumerate(sets):
        changed = labels.copy()
        held_out = np.isin(folds, list(without))
        changed[held_out] = (changed[held_out] + 1) % 4
        after = fit_temperatures_without(probs[0], changed, folds, sets)
        assert after[which] == before[which]
        assert not np.array_equal(after, before)


def test_a_set_that_leaves_no_rows_is_refused() -> None:
    proba, labels = np.full((4, 2), 0.5), np.array([0, 1, 0, 1])
    folds = np.array([0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"outside the held-out folds \[0, 1\]"):
        fit_temperatures_without(proba, labels, folds, [frozenset([0, 1])])
    weights = np.array([0.0, 0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"outside the held-out folds \[1\]"):
        fit_temperatures_without(proba, labels, folds, [frozenset([1])], row_weights=weights)
    with pytest.raises(ValueError, match="one fold for each of 4 rows"):
        fit_temperatures_without(proba, labels, folds[:3], [frozenset()])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.one_of(st.just(1.0), st.floats(0.05, 20.0)),
    classes=st.integers(1, 40),
    zeros=st.booleans(),
)
def test_float32_tempering_is_the_same_to_a_millionth(
    seed: int, temperature: float, classes: int, zeros: bool
) -> None:
    probs, _, _ = member_probabilities(seed, 1, 50, classes, zeros=zeros)
    expected = apply_temperature(probs[0], temperature)
    tempered = temper(probs[0], temperature)
    assert tempered.dtype == np.float32
    np.testing.assert_allclose(tempered, expected, rtol=3e-5, atol=3e-7)
    np.testing.assert_allclose(tempered.sum(axis=1, dtype=np.float64), 1.0, atol=1e-6)


def test_tempering_writes_where_it_is_told() -> None:
    probs, _, _ = member_probabilities(1, 1, 500, 30)
    expected = temper(probs[0], 1.7)
    out = np.empty_like(probs[0])
    assert temper(probs[0], 1.7, out=out) is out
    np.testing.assert_array_equal(out, expected)
    in_place = probs[0].copy()
    temper(in_place, 1.7, out=in_place)
    np.testing.assert_array_equal(in_place, expected)
    for wrong in (np.empty((500, 30)), np.empty((500, 29), np.float32), out[:, ::-1]):
        with pytest.raises(ValueError, match="expected out of shape"):
            temper(probs[0], 1.7, out=wrong)


def test_read_only_and_reordered_probabilities_are_no_obstacle() -> None:
    probs, labels, _ = member_probabilities(1, 1, 300, 5)
    expected = fit_temperature(probs[0], labels)
    read_only = probs[0].copy()
    read_only.setflags(write=False)
    for same in (read_only, np.asfortranarray(probs[0]), probs[0].astype(np.float64)):
        assert fit_temperature(same, labels) == pytest.approx(expected, rel=1e-12)
        np.testing.assert_array_equal(temper(same, 2.0), temper(probs[0], 2.0))


def test_temperatures_follow_no_order_of_rows() -> None:
    probs, labels, _ = member_probabilities(2, 1, 9000, 5)
    order = np.argsort(labels, kind="stable")
    assert fit_temperature(probs[0][order], labels[order]) == pytest.approx(
        fit_temperature(probs[0], labels), rel=1e-5
    )
