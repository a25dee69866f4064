from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.reliability import reliability
from tests.ensemble.made import member_probabilities

# Confidences 0.6, 0.8, 0.8 and 0.9; the second and the last are wrong.
PROBA = np.array([[0.6, 0.4], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]])
LABELS = np.array([0, 1, 1, 0])


def test_worked_values() -> None:
    found = reliability(LABELS, PROBA, bins=4)
    np.testing.assert_allclose(found.low, [0.0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(found.high, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(found.count, [0, 0, 1, 3])
    np.testing.assert_allclose(found.confidence, [np.nan, np.nan, 0.6, 2.5 / 3])
    np.testing.assert_allclose(found.accuracy, [np.nan, np.nan, 1.0, 1 / 3])
    assert found.ece == pytest.approx(0.25 * 0.4 + 0.75 * 0.5)
    assert found.mce == pytest.approx(0.5)


def test_an_edge_belongs_to_the_bin_below_it() -> None:
    proba = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    np.testing.assert_array_equal(reliability(np.zeros(3, int), proba, bins=4).count, [0, 1, 1, 1])


def test_adaptive_bins_hold_equal_counts_and_equal_confidences_together() -> None:
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1.0, size=100)
    proba = np.stack([top, 1 - top], axis=1)
    found = reliability(np.zeros(100, int), proba, bins=5, adaptive=True)
    np.testing.assert_array_equal(found.count, np.full(5, 20))
    assert np.all(found.low[1:] > found.high[:-1])
    tied = reliability(LABELS, PROBA, bins=2, adaptive=True)
    assert 3 in tied.count or 2 in tied.count
    certain = reliability(np.zeros(10, int), np.tile([1.0, 0.0], (10, 1)), bins=3, adaptive=True)
    np.testing.assert_array_equal(certain.count, [0, 10, 0])
    np.testing.assert_array_equal(certain.low, [np.nan, 1.0, np.nan])
    assert certain.ece == certain.mce == 0.0


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 100),
    bins=st.integers(1, 20),
    adaptive=st.booleans(),
)
def test_counts_as_row_weights_are_repeated_rows(
    seed: int, rows: int, bins: int, adaptive: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, 1, rows, 4, zeros=True)
    counts = np.random.default_rng(seed).integers(0, 4, size=rows)
    counts[0] = 1
    weighted = reliability(
        labels, probs[0], bins=bins, adaptive=adaptive, row_weights=counts.astype(float)
    )
    repeated = reliability(
        np.repeat(labels, counts), np.repeat(probs[0], counts, axis=0), bins=bins, adaptive=adaptive
    )
    np.testing.assert_allclose(weighted.count.sum(), counts.sum())
    if not adaptive:
        np.testing.assert_allclose(weighted.count, repeated.count)
        np.testing.assert_allclose(weighted.accuracy, repeated.accuracy)
    assert 0.0 <= weighted.ece <= weighted.mce + 1e-12 <= 1.0 + 1e-9
    filled = weighted.count > 0
    assert np.all(weighted.confidence[filled] >= weighted.low[filled] - 1e-6)
    assert np.all(weighted.confidence[filled] <= weighted.high[filled] + 1e-6)


def test_calibrated_probabilities_have_almost_no_error() -> None:
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(5), size=50_000)
    labels = (proba.cumsum(axis=1) > rng.random((50_000, 1))).argmax(axis=1)
    assert reliability(labels, proba).ece < 0.01
    assert reliability(labels, proba, adaptive=True).mce < 0.03


def test_the_arrays_are_frozen() -> None:
    found = reliability(LABELS, PROBA)
    assert len(found.count) == 15
    with pytest.raises(ValueError, match="read-only"):
        found.count[0] = 1.0


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one bin"):
        reliability(LABELS, PROBA, bins=0)
    with pytest.raises(ValueError, match="known label"):
        reliability(np.array([0, 1, 2, 0]), PROBA)
    with pytest.raises(ValueError, match="row weight"):
        reliability(LABELS, PROBA, row_weights=np.zeros(4))
