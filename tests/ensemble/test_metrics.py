from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from sklearn.metrics import log_loss as sklearn_log_loss

from ensemble.metrics import ACCURACY, LOG_LOSS, MACRO_F1, METRICS, Metric, get_metric
from tests.ensemble.made import member_probabilities

LABELS = np.array([0, 1, 1, 2])
PROBA = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])


def test_worked_values() -> None:
    assert LOG_LOSS(LABELS, PROBA) == pytest.approx((3 * math.log(2) + math.log(4)) / 4)
    assert ACCURACY(LABELS, PROBA) == 0.75
    # F1 of the classes: 2/3 (one of two predictions right), 2/3 (one of two found), 1
    assert MACRO_F1(LABELS, PROBA) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 9))
def test_values_are_those_of_scikit_learn(seed: int, rows: int, classes: int) -> None:
    probs, labels, _ = member_probabilities(seed, 1, rows, classes)
    proba = probs[0].astype(np.float64)
    decided = proba.argmax(axis=1)
    assert ACCURACY(labels, proba) == pytest.approx(accuracy_score(labels, decided))
    macro = f1_score(labels, decided, average="macro", zero_division=0)
    assert MACRO_F1(labels, proba) == pytest.approx(macro)
    proba /= proba.sum(axis=1, keepdims=True)
    expected = sklearn_log_loss(labels, proba, labels=np.arange(classes))
    assert LOG_LOSS(labels, proba) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 40))
def test_the_short_ways_and_the_bounds_hold(metric: Metric, seed: int, rows: int) -> None:
    probs, labels, _ = member_probabilities(seed, 1, rows, 4, zeros=True)
    value = metric(labels, probs[0])
    assert metric.bounds[0] <= value <= metric.bounds[1]
    if metric.from_true_class:
        p_true = probs[0][np.arange(rows), labels]
        assert metric.from_true_class(p_true) == value
    if metric.from_decisions:
        assert metric.from_decisions(labels, probs[0].argmax(axis=1), 4) == value


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
    for metric in METRICS.values():
        assert not metric.better(float("nan"), 0.5)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
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


def test_metrics_are_found_by_name() -> None:
    assert list(METRICS) == ["log_loss", "accuracy", "macro_f1"]
    assert get_metric("macro_f1") is MACRO_F1
    with pytest.raises(ValueError, match="did you mean accuracy") as caught:
        get_metric("acuracy")
    assert "log_loss, accuracy, macro_f1" in str(caught.value)


def test_a_metric_is_a_frozen_value_that_travels_between_processes() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        LOG_LOSS.name = "other"  # type: ignore[misc]
    for metric in METRICS.values():
        assert pickle.loads(pickle.dumps(metric)) == metric
