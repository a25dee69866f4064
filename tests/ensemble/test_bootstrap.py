from __future__ import annotations

import math

import numpy as np
import pytest

from ensemble.bootstrap import (
    bootstrap_interval,
    paired_difference,
    percentile_interval,
    resampled_metric,
)
from ensemble.metrics import ACCURACY, LOG_LOSS, METRICS, Metric
from tests.ensemble.made import member_probabilities

ALL = pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
SPREAD = {"resamples": 400, "confidence": 0.95}


def unknown_to_bootstrap(metric: Metric) -> Metric:
    """The same metric under another name: takes the way that recomputes it row by row."""
    return Metric(f"my {metric.name}", metric.higher_is_better, metric.bounds, metric.function)


@ALL
@pytest.mark.parametrize("grouped", [False, True])
def test_the_fast_ways_agree_with_recomputing_on_repeated_rows(
    metric: Metric, grouped: bool
) -> None:
    probs, labels, _ = member_probabilities(3, 2, 60, 5)
    groups = np.random.default_rng(0).integers(12, size=60) if grouped else None
    fast = resampled_metric(labels, probs, metric, resamples=40, seed=1, groups=groups)
    plain = resampled_metric(
        labels, probs, unknown_to_bootstrap(metric), resamples=40, seed=1, groups=groups
    )
    assert fast.shape == (2, 40)
    np.testing.assert_allclose(fast, plain, rtol=1e-12)


@ALL
def test_the_interval_surrounds_the_value_and_widens_with_confidence(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(0, 1, 300, 4)
    value = metric(labels, probs[0])
    narrow = bootstrap_interval(labels, probs[0], metric, resamples=400, confidence=0.5, seed=0)
    wide = bootstrap_interval(labels, probs[0], metric, resamples=400, confidence=0.99, seed=0)
    assert wide.low < narrow.low < value < narrow.high < wide.high
    assert metric.bounds[0] <= wide.low
    assert wide.high <= metric.bounds[1]


def test_the_interval_of_a_mean_is_that_of_the_textbook() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(2000) < 0.3).astype(int)
    proba = np.tile([0.9, 0.1], (2000, 1))  # accuracy is the share of class 0
    interval = bootstrap_interval(labels, proba, ACCURACY, resamples=4000, confidence=0.95, seed=0)
    share = float(np.mean(labels == 0))
    half = 1.96 * math.sqrt(share * (1 - share) / 2000)
    assert interval.low == pytest.approx(share - half, abs=0.002)
    assert interval.high == pytest.approx(share + half, abs=0.002)


@ALL
def test_the_seed_alone_decides_and_the_global_generator_is_left_alone(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(0, 1, 100, 4)
    np.random.seed(5)
    state = np.random.get_state()[1].tolist()
    first = bootstrap_interval(labels, probs[0], metric, seed=3, **SPREAD)
    np.random.seed(6)
    assert bootstrap_interval(labels, probs[0], metric, seed=3, **SPREAD) == first
    assert bootstrap_interval(labels, probs[0], metric, seed=4, **SPREAD) != first
    np.random.seed(5)
    bootstrap_interval(labels, probs[0], metric, seed=3, **SPREAD)
    assert np.random.get_state()[1].tolist() == state


def test_rows_of_one_group_are_drawn_together() -> None:
    # Ten copies of each row: without groups the interval is too narrow by sqrt(10).
    probs, labels, _ = member_probabilities(0, 1, 60, 3)
    proba, copies = np.tile(probs[0], (10, 1)), np.tile(labels, 10)
    groups = np.tile(np.array([f"patient {i}" for i in range(60)], dtype=object), 10)
    alone = bootstrap_interval(copies, proba, LOG_LOSS, seed=0, **SPREAD)
    together = bootstrap_interval(copies, proba, LOG_LOSS, seed=0, groups=groups, **SPREAD)
    once = bootstrap_interval(labels, probs[0], LOG_LOSS, seed=0, **SPREAD)
    assert together.low == pytest.approx(once.low)
    assert together.high == pytest.approx(once.high)
    ratio = (together.high - together.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(math.sqrt(10), rel=0.25)


@ALL
def test_rows_without_a_group_are_their_own(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(0, 1, 50, 3)
    none = np.full(50, None, dtype=object)
    nan = np.full(50, np.nan)
    names = np.arange(50)
    rows = bootstrap_interval(labels, probs[0], metric, seed=0, **SPREAD)
    for groups in (none, nan, names):
        grouped = bootstrap_interval(labels, probs[0], metric, seed=0, groups=groups, **SPREAD)
        assert grouped == rows


def test_one_group_only_has_no_spread() -> None:
    probs, labels, _ = member_probabilities(0, 1, 50, 3)
    interval = bootstrap_interval(labels, probs[0], LOG_LOSS, seed=0, groups=np.zeros(50), **SPREAD)
    assert interval.low == interval.high == pytest.approx(LOG_LOSS(labels, probs[0]))


@ALL
def test_a_difference_is_judged_on_the_same_resamples(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(0, 2, 200, 4)
    same = paired_difference(labels, probs[0], probs[0], metric, seed=0, **SPREAD)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    one_way = paired_difference(labels, probs[0], probs[1], metric, seed=0, **SPREAD)
    other = paired_difference(labels, probs[1], probs[0], metric, seed=0, **SPREAD)
    assert one_way.value == pytest.approx(metric(labels, probs[0]) - metric(labels, probs[1]))
    assert one_way.low == pytest.approx(-other.high)
    assert one_way.high == pytest.approx(-other.low)


def test_pairing_narrows_the_interval_of_two_similar_models() -> None:
    probs, labels, _ = member_probabilities(0, 1, 300, 4)
    close = 0.98 * probs[0] + 0.02 * 0.25
    paired = paired_difference(labels, probs[0], close, LOG_LOSS, seed=0, **SPREAD)
    alone = bootstrap_interval(labels, probs[0], LOG_LOSS, seed=0, **SPREAD)
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_the_percentiles_are_the_central_ones() -> None:
    interval = percentile_interval(np.arange(101.0), 0.9)
    assert (interval.low, interval.high) == (pytest.approx(5.0), pytest.approx(95.0))


def test_nonsense_is_refused() -> None:
    probs, labels, _ = member_probabilities(0, 1, 20, 3)
    with pytest.raises(ValueError, match="at least one resample"):
        bootstrap_interval(labels, probs[0], LOG_LOSS, resamples=0, confidence=0.9, seed=0)
    with pytest.raises(ValueError, match="confidence between 0 and 1"):
        bootstrap_interval(labels, probs[0], LOG_LOSS, resamples=5, confidence=1.0, seed=0)
    with pytest.raises(ValueError, match=r"groups of shape \(20,\)"):
        bootstrap_interval(labels, probs[0], LOG_LOSS, seed=0, groups=np.zeros(19), **SPREAD)
    with pytest.raises(ValueError, match="known label"):
        bootstrap_interval(labels - 5, probs[0], LOG_LOSS, seed=0, **SPREAD)
