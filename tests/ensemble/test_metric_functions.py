from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.metric_functions import (
    LOG_LOSS_FLOOR,
    TopKHits,
    area_under_roc,
    brier_rows,
    confusion_f1,
    expected_calibration_error,
    hits,
    quadratic_kappa_of_decisions,
    row_log_loss,
    true_class,
    weighted_mean,
)
from tests.ensemble.made import member_probabilities

SEEDS = st.integers(0, 2**32 - 1)


def test_a_weighted_mean_divides_by_the_sum_of_weights_in_double_precision() -> None:
    assert weighted_mean(np.array([1.0, 4.0]), np.array([2.0, 1.0])) == 2.0
    assert weighted_mean(np.array([1.0, 4.0]), None) == 2.5
    assert weighted_mean(np.full(10**6, 0.1, np.float32), None) == pytest.approx(
        np.float32(0.1), abs=1e-15
    )
    weights = np.random.default_rng(0).random(10_001)
    assert weighted_mean(np.ones(10_001), weights) == 1.0


def test_the_true_class_is_looked_up_and_floored_for_log_loss() -> None:
    proba = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    p_true = true_class(np.array([1, 1]), proba)
    assert p_true.dtype == np.float64
    np.testing.assert_array_equal(p_true, [0.75, 0.0])
    expected = [-math.log(0.75), -math.log(LOG_LOSS_FLOOR)]
    np.testing.assert_allclose(row_log_loss(p_true), expected)


def test_hits_are_right_decisions() -> None:
    np.testing.assert_array_equal(hits(np.array([0, 1, 2]), np.array([0, 2, 2])), [1, 0, 1])


def test_f1_leaves_out_classes_neither_present_nor_predicted() -> None:
    true, predicted, correct = np.array([2, 0, 1]), np.array([1, 0, 2]), np.array([1, 0, 1])
    assert confusion_f1(true, predicted, correct) == pytest.approx(2 / 3)


def test_kappa_by_hand() -> None:
    # One of four rows is decided one class away. By chance: every label against every decision.
    labels, decided = np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1])
    expected = np.mean([(a - b) ** 2 for a in labels for b in decided])
    value = quadratic_kappa_of_decisions(labels, decided, 3)
    assert value == pytest.approx(1.0 - 0.25 / expected)
    # Distances are of class indices: class 2, which nobody uses, keeps its place.
    # Observed (0 + 0 + 4) / 3, by chance (0 + 9 + 9 + 9 + 0 + 0 + 1 + 4 + 4) / 9.
    wide = quadratic_kappa_of_decisions(np.array([0, 3, 1]), np.array([0, 3, 3]), 4)
    assert wide == pytest.approx(1.0 - (4 / 3) / 4)


def test_kappa_of_one_class_is_agreement_or_chance() -> None:
    one = np.zeros(4, dtype=int)
    assert quadratic_kappa_of_decisions(one, one, 3) == 1.0
    assert quadratic_kappa_of_decisions(one, np.array([0, 0, 0, 2]), 3) == pytest.approx(0.0)
    assert quadratic_kappa_of_decisions(np.array([0, 1]), np.array([1, 0]), 2) == -1.0


def test_top_k_ranks_equal_probabilities_by_class() -> None:
    labels, even = np.arange(3), np.full((3, 3), 1 / 3)
    for k, expected in ((1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (9, [1, 1, 1])):
        np.testing.assert_array_equal(TopKHits(k)(labels, even), expected)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 40), st.integers(1, 9), st.integers(1, 10))
def test_top_k_is_membership_of_the_k_first_in_a_stable_order(
    seed: int, rows: int, classes: int, k: int
) -> None:
    rng = np.random.default_rng(seed)
    proba = rng.integers(3, size=(rows, classes)) / 4.0  # many ties
    labels = rng.integers(classes, size=rows)
    first = np.argsort(-proba, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(TopKHits(k)(labels, proba), (first == labels[:, None]).any(1))


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    probs, labels, _ = member_probabilities(0, 1, 50, 4)
    whole = TopKHits(2)(labels, probs[0]), brier_rows(labels, probs[0])
    monkeypatch.setattr("ensemble.metric_functions._BLOCK", 13)
    np.testing.assert_array_equal(TopKHits(2)(labels, probs[0]), whole[0])
    np.testing.assert_array_equal(brier_rows(labels, probs[0]), whole[1])


def test_brier_by_hand() -> None:
    proba = np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    values = brier_rows(np.array([0, 1, 2]), proba)
    np.testing.assert_allclose(values, [0.25 + 0.09 + 0.04, 0.0, 2.0], atol=1e-15)


def test_calibration_error_by_hand() -> None:
    # Two bins: confidence 0.9 right once of twice, confidence 0.6 right.
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    labels = np.array([0, 1, 1])
    expected = (2 / 3) * (0.9 - 0.5) + (1 / 3) * (1.0 - 0.6)
    assert expected_calibration_error(labels, proba) == pytest.approx(expected)


def test_a_calibration_bin_holds_its_upper_edge() -> None:
    # 9/15 belongs with 0.59 to (8/15, 9/15]: one bin, in which right and wrong cancel.
    proba = np.array([[9 / 15, 6 / 15], [0.59, 0.41]])
    value = expected_calibration_error(np.array([0, 1]), proba)
    assert value == pytest.approx(abs(0.5 - (0.6 + 0.59) / 2))


def test_calibrated_predictions_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(3), size=60_000)
    labels = (rng.random((60_000, 1)) > proba.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    assert expected_calibration_error(labels, proba) < 0.01
    assert expected_calibration_error(labels, np.eye(3)[proba.argmax(axis=1)]) > 0.2


def test_area_by_counting_pairs() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=30)
    scores = rng.integers(5, size=30) / 4.0
    up, down = scores[labels == 1], scores[labels == 0]
    pairs = np.mean([0.5 * (a == b) + (a > b) for a in up for b in down])
    proba = np.stack([1.0 - scores, scores], axis=1)
    assert area_under_roc(labels, proba) == pytest.approx(pairs)


def test_area_is_averaged_over_the_classes_that_can_be_judged() -> None:
    # Class 2 has no row. Class 0 is ordered rightly, class 1 wrongly for half of the pairs.
    proba = np.array([[0.6, 0.3, 0.1], [0.3, 0.2, 0.5], [0.2, 0.5, 0.3]])
    assert area_under_roc(np.array([0, 1, 1]), proba) == pytest.approx((1.0 + 0.5) / 2)
    assert area_under_roc(np.array([1, 1, 1]), proba) == 0.5
    absent = np.array([1.0, 0.0, 0.0])
    assert area_under_roc(np.array([0, 1, 1]), proba, absent) == 0.5
