from __future__ import annotations

import math

import numpy as np
import pytest

from ensemble.bootstrap import (
    UndefinedError,
    bootstrap_interval,
    paired_difference,
    percentile_interval,
    resample_counts,
    resampled_metric,
    standard_error_of_difference,
)
from ensemble.errors import BlendError
from ensemble.metrics import ACCURACY, AUC, BRIER, LOG_LOSS, MACRO_F1, Metric, get_metric
from ensemble.outcome import Outcome
from tests.ensemble.made import member_probabilities

NAMES = [
    "log_loss",
    "accuracy",
    "macro_f1",
    "balanced_accuracy",
    "top_2_accuracy",
    "quadratic_kappa",
    "auc",
    "brier",
    "ece",
]
ALL = pytest.mark.parametrize("metric", [get_metric(name) for name in NAMES], ids=NAMES)
SCORERS = ["sklearn:f1_weighted", "sklearn:neg_log_loss", "sklearn:adjusted_rand_score"]
AND_SCORERS = pytest.mark.parametrize(
    "metric", [get_metric(name) for name in NAMES + SCORERS], ids=NAMES + SCORERS
)
SPREAD = {"resamples": 200, "confidence": 0.95}


def on_repeated_rows(metric: Metric) -> Metric:
    """The same metric without its shorter ways, recomputed on every row as often as its weight."""

    def repeated(labels: np.ndarray, proba: np.ndarray, weights: np.ndarray | None) -> float:
        assert weights is not None
        rows = np.repeat(np.arange(len(labels)), weights.astype(int))
        return metric(labels[rows], proba[rows])

    return Metric(f"my {metric.name}", metric.higher_is_better, metric.bounds, repeated)


@AND_SCORERS
@pytest.mark.parametrize("grouped", [False, True], ids=["rows", "groups"])
@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
def test_the_fast_ways_agree_with_recomputing_on_repeated_rows(
    metric: Metric, grouped: bool, weighted: bool
) -> None:
    probs, labels, _ = member_probabilities(3, 2, 60, 5)
    rng = np.random.default_rng(0)
    groups = rng.integers(12, size=60) if grouped else None
    weights = rng.integers(4, size=60).astype(np.float64) if weighted else None
    options = {"resamples": 12, "seed": 1, "groups": groups, "row_weights": weights}
    fast = resampled_metric(labels, probs, metric, **options)
    plain = resampled_metric(labels, probs, on_repeated_rows(metric), **options)
    assert fast.shape == (2, 12)
    rtol = 1e-6 if metric.name == "sklearn:neg_log_loss" else 1e-11  # it sums in float32
    np.testing.assert_allclose(fast, plain, rtol=rtol)


@AND_SCORERS
def test_an_outcome_is_resampled_as_its_probabilities_are(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(3, 2, 60, 5)
    keep = metric.needs == "probabilities"
    outcomes = [Outcome.of(labels, proba, keep) for proba in probs]
    of_outcomes = resampled_metric(labels, outcomes, metric, resamples=10, seed=1)
    of_arrays = resampled_metric(labels, probs, metric, resamples=10, seed=1)
    np.testing.assert_array_equal(of_outcomes, of_arrays)


def test_an_outcome_that_kept_too_little_is_refused() -> None:
    probs, labels, _ = member_probabilities(3, 1, 60, 5)
    outcome = Outcome.of(labels, probs[0], keep_proba=False)
    for metric in (BRIER, AUC):
        with pytest.raises(BlendError, match="needs whole probabilities"):
            bootstrap_interval(labels, outcome, metric, seed=0, **SPREAD)
    undecided = Outcome(outcome.p_true, np.full(60, -1), 5)
    for metric in (ACCURACY, MACRO_F1):
        with pytest.raises(BlendError, match="needs a decision"):
            bootstrap_interval(labels, undecided, metric, seed=0, **SPREAD)


def test_a_true_class_metric_that_is_no_mean_is_resampled_from_the_true_class() -> None:
    probs, labels, _ = member_probabilities(3, 1, 60, 5)

    def root(p_true: np.ndarray, weights: np.ndarray | None = None) -> float:
        return math.sqrt(np.average((1.0 - p_true) ** 2, weights=weights))

    def of_proba(labels: np.ndarray, proba: np.ndarray, weights: np.ndarray | None) -> float:
        return root(proba[np.arange(len(labels)), labels].astype(np.float64), weights)

    short = Metric("root", False, (0.0, 1.0), of_proba, from_true_class=root)
    whole = Metric("root", False, (0.0, 1.0), of_proba)
    outcome = Outcome.of(labels, probs[0], keep_proba=False)
    values = resampled_metric(labels, [outcome], short, resamples=20, seed=0)
    expected = resampled_metric(labels, probs, whole, resamples=20, seed=0)
    np.testing.assert_allclose(values, expected, rtol=1e-12)


@ALL
def test_the_interval_surrounds_the_value_and_widens_with_confidence(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(0, 1, 300, 4)
    narrow = bootstrap_interval(labels, probs[0], metric, resamples=200, confidence=0.5, seed=0)
    wide = bootstrap_interval(labels, probs[0], metric, resamples=200, confidence=0.99, seed=0)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert metric.bounds[0] <= wide.low
    assert wide.high <= metric.bounds[1]
    if metric.name == "ece":
        return  # a sum of absolute values: noise makes it larger, also that of a resample
    assert narrow.low < metric(labels, probs[0]) < narrow.high


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


def test_a_weighted_row_is_a_group_of_as_many_rows() -> None:
    probs, labels, _ = member_probabilities(0, 1, 60, 3)
    times = np.random.default_rng(0).integers(1, 5, size=60)
    for metric in (LOG_LOSS, MACRO_F1, AUC):
        weighted = bootstrap_interval(
            labels, probs[0], metric, seed=0, row_weights=times.astype(np.float64), **SPREAD
        )
        repeated = bootstrap_interval(
            labels.repeat(times),
            probs[0].repeat(times, axis=0),
            metric,
            seed=0,
            groups=np.arange(60).repeat(times),
            **SPREAD,
        )
        assert weighted.low == pytest.approx(repeated.low)
        assert weighted.high == pytest.approx(repeated.high)


@ALL
def test_a_row_of_weight_0_is_not_there(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(0, 1, 60, 3)
    groups = np.arange(60) // 2
    weights = np.r_[np.zeros(21), np.full(39, 2.0)]
    there = slice(21, None)
    weighted = bootstrap_interval(
        labels, probs[0], metric, seed=0, groups=groups, row_weights=weights, **SPREAD
    )
    without = bootstrap_interval(
        labels[there], probs[0][there], metric, seed=0, groups=groups[there], **SPREAD
    )
    assert weighted.low == pytest.approx(without.low)
    assert weighted.high == pytest.approx(without.high)


def test_counts_are_those_of_the_resamples() -> None:
    probs, labels, _ = member_probabilities(0, 1, 60, 3)
    groups = np.arange(60) // 3
    for chosen in (None, groups):
        counts = np.array(list(resample_counts(labels, chosen, 25, seed=7)))
        assert counts.shape == (25, 60)
        np.testing.assert_array_equal(counts.sum(axis=1), 60)
        expected = [LOG_LOSS(labels, probs[0], row) for row in counts]
        values = resampled_metric(labels, probs, LOG_LOSS, resamples=25, seed=7, groups=chosen)
        np.testing.assert_allclose(values[0], expected, rtol=1e-12)
    assert (counts.reshape(25, 20, 3) == counts[:, ::3, None]).all()


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


def test_a_difference_of_weighted_rows_is_that_of_the_metric() -> None:
    probs, labels, _ = member_probabilities(0, 2, 200, 4)
    weights = np.random.default_rng(0).random(200)
    found = paired_difference(labels, *probs, MACRO_F1, seed=0, row_weights=weights, **SPREAD)
    expected = MACRO_F1(labels, probs[0], weights) - MACRO_F1(labels, probs[1], weights)
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high


def test_the_standard_error_of_a_mean_is_that_of_the_textbook() -> None:
    probs, labels, _ = member_probabilities(0, 2, 200, 4)
    rows = -np.log(probs[:, np.arange(200), labels].astype(np.float64))
    found = standard_error_of_difference(labels, *probs, LOG_LOSS, resamples=2, seed=0)
    expected = np.std(rows[0] - rows[1], ddof=1) / math.sqrt(200)
    assert found == pytest.approx(expected)


@AND_SCORERS
def test_the_standard_error_is_the_spread_of_paired_resamples(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(1, 2, 240, 4)
    groups = np.arange(240) // 2
    fractions = np.random.default_rng(0).random(240) + 0.5
    weights = None if "adjusted_rand" in metric.name else fractions  # whole numbers only
    options = {"seed": 0, "groups": groups, "row_weights": weights}
    resamples = 25 if metric.name.startswith("sklearn") else 300
    found = standard_error_of_difference(labels, *probs, metric, resamples=resamples, **options)
    values = resampled_metric(labels, probs, metric, resamples=resamples, **options)
    assert found == pytest.approx(np.std(values[0] - values[1], ddof=1), rel=0.1)


def test_a_standard_error_needs_no_whole_probabilities_and_no_spread_is_0() -> None:
    probs, labels, _ = member_probabilities(1, 2, 100, 4)
    a, b = (Outcome.of(labels, proba, keep_proba=False) for proba in probs)
    for metric in (LOG_LOSS, ACCURACY, MACRO_F1):
        options = {"metric": metric, "resamples": 50, "seed": 0}
        assert standard_error_of_difference(labels, a, b, **options) > 0
        assert standard_error_of_difference(labels, a, a, **options) == 0
        one = np.zeros(100)
        assert standard_error_of_difference(labels, a, b, groups=one, **options) < 1e-15
    with pytest.raises(ValueError, match="at least two resamples"):
        standard_error_of_difference(labels, a, b, LOG_LOSS, resamples=1, seed=0)


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
    with pytest.raises(ValueError, match="NaN in row 0"):
        bootstrap_interval(labels, probs[0] * np.nan, LOG_LOSS, seed=0, **SPREAD)
    with pytest.raises(ValueError, match=r"row weights of shape \(20,\)"):
        bootstrap_interval(labels, probs[0], LOG_LOSS, seed=0, row_weights=np.ones(3), **SPREAD)
    outcome = Outcome.of(labels, probs[0], keep_proba=False)
    with pytest.raises(ValueError, match="a label for each of 20 rows"):
        bootstrap_interval(labels[1:], outcome, LOG_LOSS, seed=0, **SPREAD)
    with pytest.raises(ValueError, match=r"groups of shape \(20,\)"):
        next(resample_counts(labels, np.zeros(19), 1, 0))


def test_a_metric_that_scikit_learn_refuses_on_a_resample_is_told_from_other_errors() -> None:
    labels = np.arange(40) % 2
    labels[7] = 2
    proba = np.random.default_rng(0).dirichlet(np.ones(3), size=40)
    with pytest.raises(UndefinedError, match="not defined on every resample of the rows") as caught:
        resampled_metric(labels, [proba], get_metric("sklearn:roc_auc_ovr"), resamples=40, seed=0)
    assert caught.value.metric == "sklearn:roc_auc_ovr"
