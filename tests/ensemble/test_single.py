from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.metrics import ACCURACY, LOG_LOSS, METRICS
from ensemble.single import best_single
from tests.ensemble.made import member_probabilities


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans())
def test_no_member_is_better_alone(seed: int, members: int, zeros: bool) -> None:
    probs, labels, _ = member_probabilities(seed, members, 40, 3, zeros=zeros)
    row_weights = np.random.default_rng(seed).uniform(size=40)
    for metric in METRICS.values():
        weights = best_single(probs, labels, metric, row_weights=row_weights)
        assert sorted(weights) == [0.0] * (members - 1) + [1.0]
        values = [metric(labels, proba, row_weights) for proba in probs]
        assert metric.loss(values[weights.argmax()]) == min(map(metric.loss, values))


def test_the_true_class_is_enough_for_log_loss() -> None:
    probs, labels, _ = member_probabilities(1, 5, 60, 4)
    p_true = probs[:, np.arange(60), labels]
    np.testing.assert_array_equal(
        best_single(p_true, labels, LOG_LOSS), best_single(probs, labels, LOG_LOSS)
    )


def test_ties_go_to_the_lower_log_loss_and_then_to_the_first() -> None:
    labels = np.array([0, 1])
    timid = np.array([[0.6, 0.4], [0.4, 0.6]])
    bold = np.array([[0.9, 0.1], [0.1, 0.9]])
    np.testing.assert_array_equal(
        best_single(np.stack([timid, bold, bold]), labels, ACCURACY), [0.0, 1.0, 0.0]
    )


def test_row_weights_can_change_who_is_best() -> None:
    probs = np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.6, 0.4], [0.2, 0.8]]])
    labels = np.array([0, 1])
    np.testing.assert_array_equal(best_single(probs, labels, LOG_LOSS), [0.0, 1.0])
    first = best_single(probs, labels, LOG_LOSS, row_weights=np.array([10.0, 1.0]))
    np.testing.assert_array_equal(first, [1.0, 0.0])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((2, 3), 0.5), r"and as many labels, got \(2, 3\)"),
        (np.array([[0.5, 0.5], [np.nan, 0.5]]), "member 1: expected probabilities, got NaN"),
        (np.empty((0, 2)), "expected true-class"),
    ],
)
def test_true_class_probabilities_that_do_not_fit_are_refused(
    source: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        best_single(source, np.array([0, 1]), LOG_LOSS)


def test_a_metric_that_needs_more_than_the_true_class_says_so() -> None:
    with pytest.raises(ValueError, match="accuracy needs more"):
        best_single(np.full((2, 3), 0.5), np.zeros(3, int), ACCURACY)
