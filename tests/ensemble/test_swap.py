from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.average import weighted_average
from ensemble.greedy import greedy_selection, greedy_weights
from ensemble.metrics import ACCURACY, BALANCED_ACCURACY, BRIER, LOG_LOSS, MACRO_F1, Metric
from ensemble.swap import swap_from_true_class, swap_weights
from tests.ensemble.brute import mean_losses
from tests.ensemble.made import member_probabilities

each_kind = pytest.mark.parametrize(
    "metric", [LOG_LOSS, ACCURACY, MACRO_F1, BALANCED_ACCURACY, BRIER], ids=lambda m: m.name
)
seeds = st.integers(0, 2**32 - 1)


def loss(metric: Metric, probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    return metric.loss(metric(labels, weighted_average(probs, weights)))


@each_kind
@settings(deadline=None, max_examples=10)
@given(seed=seeds, members=st.integers(1, 6), classes=st.sampled_from([2, 4, 20]))
def test_swapping_is_in_sample_never_worse_than_greedy(
    metric: Metric, seed: int, members: int, classes: int
) -> None:
    probs, labels, _ = member_probabilities(seed, members, 30, classes)
    weights = swap_weights(probs, labels, metric, steps=5)
    assert weights.shape == (members,)
    assert np.all(weights >= 0)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    greedy = greedy_weights(probs, labels, metric, steps=5)
    assert loss(metric, probs, labels, weights) <= loss(metric, probs, labels, greedy) + 1e-12


@each_kind
@settings(deadline=None, max_examples=10)
@given(seed=seeds, classes=st.sampled_from([3, 20]), weighted=st.booleans())
def test_no_single_exchange_improves_the_result(
    metric: Metric, seed: int, classes: int, weighted: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, 5, 30, classes)
    rows = np.random.default_rng(seed).exponential(size=30) if weighted else None
    size = greedy_selection(probs, labels, metric, steps=6, row_weights=rows).length
    weights = swap_weights(probs, labels, metric, steps=6, row_weights=rows)
    counts = np.rint(weights * size).astype(int)
    np.testing.assert_allclose(counts / size, weights, atol=1e-12)  # as many as greedy chose
    bag = np.repeat(np.arange(5), counts).tolist()
    now, _ = mean_losses(probs, labels, metric, bag, rows)
    for leaving in set(bag):
        for joining in range(5):
            other = [*(Counter(bag) - Counter([leaving])).elements(), joining]
            then, _ = mean_losses(probs, labels, metric, other, rows)
            assert then >= now - 1e-10


@each_kind
@settings(deadline=None, max_examples=8)
@given(seed=seeds)
def test_permuting_the_members_permutes_the_weights(metric: Metric, seed: int) -> None:
    probs, labels, _ = member_probabilities(seed, 5, 60, 3)
    order = np.random.default_rng(seed).permutation(5)
    weights = swap_weights(probs, labels, metric, steps=6)
    again = swap_weights(probs[order], labels, metric, steps=6)
    np.testing.assert_allclose(again, weights[order], atol=1e-12)


def test_an_early_choice_that_two_later_ones_replace_is_taken_back() -> None:
    # The all-rounder is best alone and so greedy's first; the two specialists are better without.
    labels = np.zeros(2, int)
    p_true = np.array([[0.55, 0.55], [0.98, 0.1], [0.1, 0.98], [0.56, 0.53]])
    probs = np.stack([p_true, 1.0 - p_true], axis=2)
    greedy = greedy_weights(probs, labels, LOG_LOSS, steps=3)
    weights = swap_weights(probs, labels, LOG_LOSS, steps=3)
    assert greedy.sum() == pytest.approx(1.0)
    assert loss(LOG_LOSS, probs, labels, weights) <= loss(LOG_LOSS, probs, labels, greedy)


@pytest.mark.parametrize("metric", [LOG_LOSS, ACCURACY], ids=lambda m: m.name)
def test_exchanges_do_help_sometimes(metric: Metric) -> None:
    gains = []
    for seed in range(30):
        probs, labels, _ = member_probabilities(seed, 8, 60, 3)
        greedy = greedy_weights(probs, labels, metric, steps=6)
        swapped = swap_weights(probs, labels, metric, steps=6)
        gains.append(loss(metric, probs, labels, greedy) - loss(metric, probs, labels, swapped))
    assert max(gains) > 1e-6


@settings(deadline=None, max_examples=10)
@given(seed=seeds)
def test_log_loss_needs_only_the_true_class(seed: int) -> None:
    probs, labels, _ = member_probabilities(seed, 5, 40, 4)
    p_true = probs[:, np.arange(40), labels]
    np.testing.assert_array_equal(
        swap_from_true_class(p_true, steps=6), swap_weights(probs, labels, LOG_LOSS, steps=6)
    )


def test_no_rounds_leave_what_greedy_chose() -> None:
    probs, labels, _ = member_probabilities(3, 5, 40, 3)
    for metric in (LOG_LOSS, ACCURACY):
        np.testing.assert_array_equal(
            swap_weights(probs, labels, metric, max_rounds=0), greedy_weights(probs, labels, metric)
        )


def test_what_cannot_be_swapped_by_is_refused() -> None:
    probs, labels, _ = member_probabilities(3, 2, 10, 3)
    with pytest.raises(ValueError, match="max_rounds of at least 0, got -1"):
        swap_weights(probs, labels, LOG_LOSS, max_rounds=-1)
    with pytest.raises(ValueError, match="at least one step, got 0"):
        swap_from_true_class(probs[:, :, 0], steps=0)
