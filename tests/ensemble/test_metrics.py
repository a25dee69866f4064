from __future__ import annotations

import dataclasses
import math
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    mean_squared_error,
    roc_auc_score,
    top_k_accuracy_score,
)
from sklearn.metrics import log_loss as sklearn_log_loss

from ensemble.metrics import (
    ACCURACY,
    AUC,
    BALANCED_ACCURACY,
    BRIER,
    KNOWN_METRICS,
    LOG_LOSS,
    MACRO_F1,
    METRICS,
    QUADRATIC_KAPPA,
    Metric,
    check_row_weights,
    get_metric,
)
from tests.ensemble.made import member_probabilities

LABELS = np.array([0, 1, 1, 2])
ALL = [
    get_metric(name)
    for name in (
        "log_loss",
        "accuracy",
        "macro_f1",
        "balanced_accuracy",
        "top_1_accuracy",
        "top_3_accuracy",
        "quadratic_kappa",
        "auc",
        "brier",
        "ece",
    )
]
EVERY = pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
SEEDS = st.integers(0, 2**32 - 1)
PROBA = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])


def test_worked_values() -> None:
    assert LOG_LOSS(LABELS, PROBA) == pytest.approx((3 * math.log(2) + math.log(4)) / 4)
    assert ACCURACY(LABELS, PROBA) == 0.75
    # F1 of the classes: 2/3 (one of two predictions right), 2/3 (one of two found), 1
    assert MACRO_F1(LABELS, PROBA) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def made(seed: int, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, float64 probabilities that sum to 1, and positive row weights. None is below our
    floor of 1e-7, where scikit-learn has another one; added, not clipped: no ties are made."""
    probs, labels, _ = member_probabilities(seed, 1, rows, classes)
    proba = probs[0].astype(np.float64) + 1e-6
    proba /= proba.sum(axis=1, keepdims=True)
    return labels, proba, np.random.default_rng(seed).random(rows) + 0.01


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 60), st.integers(2, 9), st.booleans())
def test_values_are_those_of_scikit_learn(
    seed: int, rows: int, classes: int, weighted: bool
) -> None:
    labels, proba, row_weights = made(seed, rows, classes)
    weights = row_weights if weighted else None
    decided, every = proba.argmax(axis=1), np.arange(classes)

    def same(metric: Metric, expected: float) -> None:
        assert metric(labels, proba, weights) == pytest.approx(expected, rel=1e-6, abs=1e-12)

    same(ACCURACY, accuracy_score(labels, decided, sample_weight=weights))
    f1 = f1_score(labels, decided, average="macro", zero_division=0, sample_weight=weights)
    same(MACRO_F1, f1)
    same(LOG_LOSS, sklearn_log_loss(labels, proba, labels=every, sample_weight=weights))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes decided and not present, and of kappa's 0/0
        balanced = balanced_accuracy_score(labels, decided, sample_weight=weights)
        kappa = cohen_kappa_score(
            labels, decided, labels=every, weights="quadratic", sample_weight=weights
        )
    same(BALANCED_ACCURACY, balanced)
    same(QUADRATIC_KAPPA, 1.0 if math.isnan(kappa) else kappa)
    truth = np.eye(classes)[labels]
    same(BRIER, classes * mean_squared_error(truth, proba, sample_weight=weights))


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(12, 60), st.integers(2, 6), st.integers(1, 5), st.booleans())
def test_ranks_are_those_of_scikit_learn(
    seed: int, rows: int, classes: int, k: int, weighted: bool
) -> None:
    labels, proba, row_weights = made(seed, rows, classes)
    labels[:classes] = np.arange(classes)  # its area needs every class
    weights = row_weights if weighted else None
    scores = proba[:, 1] if classes == 2 else proba
    area = roc_auc_score(labels, scores, multi_class="ovr", sample_weight=weights)
    assert AUC(labels, proba, weights) == pytest.approx(area)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a k that is at least the number of classes
        top = top_k_accuracy_score(labels, scores, k=k, sample_weight=weights)
    assert get_metric(f"top_{k}_accuracy")(labels, proba, weights) == pytest.approx(top)


@EVERY
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, rows=st.integers(1, 40), weighted=st.booleans())
def test_the_short_ways_and_the_bounds_hold(
    metric: Metric, seed: int, rows: int, weighted: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, 1, rows, 4, zeros=True)
    weights = np.random.default_rng(seed).random(rows) + 0.01 if weighted else None
    value = metric(labels, probs[0], weights)
    low, high = metric.bounds
    assert low - 1e-12 <= value <= high + 1e-12
    decided = probs[0].argmax(axis=1)
    p_true = probs[0][np.arange(rows), labels]
    if metric.from_true_class:
        assert metric.needs == "true_class"
        assert metric.from_true_class(p_true, weights) == value
    elif metric.from_decisions:
        assert metric.needs == "decisions"
        assert metric.from_decisions(labels, decided, 4, weights) == value
    else:
        assert metric.needs == "probabilities"
    if metric.row_values:
        values = metric.row_values(labels, probs[0])
        assert values.shape == (rows,)
        assert np.average(values, weights=weights) == pytest.approx(value, rel=1e-12)
        if metric.true_class_values:
            np.testing.assert_array_equal(metric.true_class_values(p_true), values)
        if metric.decision_values:
            np.testing.assert_array_equal(metric.decision_values(labels, decided), values)


@EVERY
@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, rows=st.integers(1, 40))
def test_a_whole_weight_is_a_row_repeated_and_0_a_row_left_out(
    metric: Metric, seed: int, rows: int
) -> None:
    probs, labels, _ = member_probabilities(seed, 1, rows, 4)
    times = np.random.default_rng(seed).integers(4, size=rows)
    times[0] = 1
    repeated = metric(labels.repeat(times), probs[0].repeat(times, axis=0))
    assert metric(labels, probs[0], times.astype(np.float64)) == pytest.approx(repeated, abs=1e-12)
    assert metric(labels, probs[0], times) == pytest.approx(repeated, abs=1e-12)


@EVERY
@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, rows=st.integers(1, 40), scale=st.floats(1e-3, 1e3))
def test_the_order_of_rows_and_the_scale_of_weights_change_nothing(
    metric: Metric, seed: int, rows: int, scale: float
) -> None:
    labels, proba, weights = made(seed, rows, 4)
    value = metric(labels, proba, weights)
    order = np.random.default_rng(seed).permutation(rows)
    shuffled = metric(labels[order], proba[order], scale * weights[order])
    assert shuffled == pytest.approx(value, rel=1e-9, abs=1e-12)
    even = metric(labels, proba, np.full(rows, scale))
    assert even == pytest.approx(metric(labels, proba), rel=1e-9, abs=1e-12)


def test_certainty_of_the_wrong_class_costs_a_finite_log_loss() -> None:
    value = LOG_LOSS(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert value == pytest.approx(-math.log(1e-7) / 2)
    assert LOG_LOSS.bounds[1] == pytest.approx(16.118, abs=1e-3)


def test_a_tie_of_classes_goes_to_the_first() -> None:
    assert ACCURACY(np.array([0, 1]), np.full((2, 2), 0.5)) == 0.5


def test_log_loss_sums_in_double_precision() -> None:
    proba = np.full((1_000_000, 2), 0.5, np.float32)
    assert LOG_LOSS(np.zeros(1_000_000, int), proba) == pytest.approx(math.log(2), abs=1e-12)


def test_loss_and_better_follow_the_direction() -> None:
    assert LOG_LOSS.better(0.1, 0.2)
    assert not LOG_LOSS.better(0.2, 0.2)
    assert ACCURACY.better(0.2, 0.1)
    assert ACCURACY.loss(0.75) == -0.75
    assert LOG_LOSS.loss(0.75) == 0.75
    for metric in ALL:
        assert not metric.better(float("nan"), 0.5)


@EVERY
@pytest.mark.parametrize(
    ("labels", "proba", "message"),
    [
        (LABELS[:3], PROBA, r"got \(3,\) and \(4, 3\)"),
        (LABELS, PROBA[:, 0], "expected labels"),
        (LABELS[:0], PROBA[:0], "at least one row"),
        (np.array([0, -1, 1, -1]), PROBA, "got 2 of 4 rows without"),
        (np.array([0, 3, 1, 1]), PROBA, "got 1 of 4 rows without"),
        (LABELS, np.where(PROBA == 0.5, np.nan, PROBA), "NaN in row 0"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    metric: Metric, labels: np.ndarray, proba: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric(labels, proba)


@EVERY
@pytest.mark.parametrize(
    ("row_weights", "message"),
    [
        (np.ones(3), r"row weights of shape \(4,\), got \(3,\)"),
        (np.array([1.0, -1.0, 1.0, 1.0]), r"at least 0, got -1.0 in row 1"),
        (np.array([1.0, 1.0, np.nan, 1.0]), "got nan in row 2"),
        (np.array([1.0, 1.0, 1.0, np.inf]), "got inf in row 3"),
        (np.zeros(4), "above 0 in at least one row"),
    ],
)
def test_impossible_row_weights_are_refused(
    metric: Metric, row_weights: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric(LABELS, PROBA, row_weights)


def test_no_row_weights_are_all_one() -> None:
    check_row_weights(None, 3)
    assert LOG_LOSS(LABELS, PROBA, np.ones(4)) == LOG_LOSS(LABELS, PROBA)
    weighted = LOG_LOSS(LABELS, PROBA, np.array([1.0, 0.0, 3.0, 0.0]))
    assert weighted == pytest.approx((math.log(2) + 3 * math.log(4)) / 4)


def test_metrics_are_found_by_name() -> None:
    assert list(METRICS) == ["log_loss", "accuracy", "macro_f1"]
    assert get_metric("macro_f1") is MACRO_F1
    for metric in ALL:
        assert get_metric(metric.name) == metric
    assert get_metric("top_12_accuracy") != get_metric("top_2_accuracy")
    assert get_metric("sklearn:f1_weighted").name == "sklearn:f1_weighted"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("acuracy", "accuracy"),
        ("top5_accuracy", "top_5_accuracy"),
        ("kappa_quadratic", "quadratic_kappa"),
        ("sklearn:f1_weihgted", "sklearn:f1_weighted"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean {nearest}"):
        get_metric(name)


@pytest.mark.parametrize("name", ["top_0_accuracy", "top_k_accuracy", "", "zebra"])
def test_a_refusal_lists_what_is_known(name: str) -> None:
    with pytest.raises(ValueError, match="unknown metric") as caught:
        get_metric(name)
    assert ", ".join(KNOWN_METRICS) in str(caught.value)


def test_a_metric_is_a_frozen_value_that_travels_between_processes() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        LOG_LOSS.name = "other"  # type: ignore[misc]
    for metric in ALL:
        assert pickle.loads(pickle.dumps(metric)) == metric


def test_only_sums_and_loops_of_our_own_are_quick() -> None:
    quick = ("log_loss", "accuracy", "macro_f1", "brier", "quadratic_kappa", "top_2_accuracy")
    slow = ("auc", "ece", "sklearn:accuracy", "sklearn:f1_macro", "sklearn:roc_auc_ovr")
    assert all(get_metric(name).is_quick for name in quick)
    assert not any(get_metric(name).is_quick for name in slow)
