"""What every way of weighing members promises, stated once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.average import equal_weights, weighted_average
from ensemble.convex import convex_weights
from ensemble.greedy import greedy_weights
from ensemble.metrics import LOG_LOSS, METRICS, Metric
from tests.ensemble.made import member_probabilities

Weigh = Callable[[np.ndarray, np.ndarray, Metric], np.ndarray]

CASES = [
    pytest.param(weigh, metric, id=f"{weigh.__name__}-{name}")
    for weigh in (equal_weights, greedy_weights, convex_weights)
    for name, metric in METRICS.items()
]
sizes = given(
    seed=st.integers(0, 2**32 - 1),
    members=st.integers(1, 6),
    rows=st.integers(1, 40),
    classes=st.integers(2, 5),
    zeros=st.booleans(),
)


@pytest.mark.parametrize(("weigh", "metric"), CASES)
class TestContract:
    @settings(deadline=None, max_examples=25)
    @sizes
    def test_weights_are_on_the_simplex_and_the_same_again(
        self,
        weigh: Weigh,
        metric: Metric,
        seed: int,
        members: int,
        rows: int,
        classes: int,
        zeros: bool,
    ) -> None:
        probs, labels, _ = member_probabilities(seed, members, rows, classes, zeros=zeros)
        weights = weigh(probs, labels, metric)
        assert weights.shape == (members,)
        assert weights.dtype == np.float64
        assert np.all(weights >= 0)
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_array_equal(weigh(probs, labels, metric), weights)
        blend = weighted_average(probs, weights)
        assert np.isfinite(metric(labels, blend))
        np.testing.assert_allclose(blend.sum(axis=1), 1.0, atol=1e-5)

    @settings(deadline=None, max_examples=15)
    @given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 20))
    def test_one_member_gets_all_the_weight(
        self, weigh: Weigh, metric: Metric, seed: int, rows: int
    ) -> None:
        probs, labels, _ = member_probabilities(seed, 1, rows, 3, zeros=True)
        np.testing.assert_array_equal(weigh(probs, labels, metric), [1.0])

    @settings(deadline=None, max_examples=20)
    @given(seed=st.integers(0, 2**32 - 1), members=st.integers(2, 6))
    def test_the_order_of_members_does_not_matter(
        self, weigh: Weigh, metric: Metric, seed: int, members: int
    ) -> None:
        probs, labels, _ = member_probabilities(seed, members, 150, 3)
        order = np.random.default_rng(seed).permutation(members)
        weights = weigh(probs, labels, metric)
        np.testing.assert_allclose(weigh(probs[order], labels, metric), weights[order], atol=2e-3)

    @settings(deadline=None, max_examples=15)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_the_order_of_rows_does_not_matter(
        self, weigh: Weigh, metric: Metric, seed: int
    ) -> None:
        probs, labels, _ = member_probabilities(seed, 4, 150, 3)
        order = np.random.default_rng(seed).permutation(150)
        weights = weigh(probs, labels, metric)
        again = weigh(probs[:, order], labels[order], metric)
        np.testing.assert_allclose(again, weights, atol=2e-3)

    def test_identical_members_blend_to_themselves(self, weigh: Weigh, metric: Metric) -> None:
        probs, labels, _ = member_probabilities(3, 1, 50, 4)
        copies = np.repeat(probs, 5, axis=0)
        blend = weighted_average(copies, weigh(copies, labels, metric))
        np.testing.assert_allclose(blend, probs[0], atol=1e-7)

    def test_a_true_class_that_no_member_believes_in_is_survived(
        self, weigh: Weigh, metric: Metric
    ) -> None:
        probs = np.tile(np.array([[0.5, 0.5], [0.75, 0.25], [0.0, 1.0]]), (3, 1, 1))
        probs[1, :2] = [0.25, 0.75]
        weights = weigh(probs, np.array([0, 1, 0]), metric)
        assert weights.sum() == pytest.approx(1.0)
        assert np.all(weights >= 0)

    def test_a_single_row_is_enough(self, weigh: Weigh, metric: Metric) -> None:
        probs = np.array([[[0.25, 0.75]], [[0.5, 0.5]]])
        assert weigh(probs, np.array([0]), metric).sum() == pytest.approx(1.0)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_nothing_that_was_given_is_changed(
        self, weigh: Weigh, metric: Metric, dtype: type
    ) -> None:
        probs, labels, _ = member_probabilities(5, 3, 30, 3, zeros=True)
        probs = probs.astype(dtype)
        before = probs.copy(), labels.copy()
        weigh(probs, labels, metric)
        np.testing.assert_array_equal(probs, before[0])
        np.testing.assert_array_equal(labels, before[1])

    def test_nan_is_refused_by_member(self, weigh: Weigh, metric: Metric) -> None:
        probs, labels, _ = member_probabilities(0, 3, 10, 3)
        probs[1, 4, 2] = np.nan
        with pytest.raises(ValueError, match=r"member 1: .*NaN"):
            weigh(probs, labels, metric)

    @pytest.mark.parametrize("value", [-0.5, 1.5, np.inf])
    def test_what_is_no_probability_is_refused(
        self, weigh: Weigh, metric: Metric, value: float
    ) -> None:
        probs, labels, _ = member_probabilities(0, 3, 10, 3)
        probs[2, 0, 0] = value
        with pytest.raises(ValueError, match="member 2: expected values from 0 to 1"):
            weigh(probs, labels, metric)

    def test_shapes_that_do_not_fit_are_refused(self, weigh: Weigh, metric: Metric) -> None:
        probs, labels, _ = member_probabilities(0, 3, 10, 3)
        for wrong_probs, wrong_labels in (
            (probs[0], labels),  # no members' axis
            (probs, labels[:9]),
            (probs[:, :1], labels),  # one row must not stand for all
            (probs[:0], labels),  # nobody
            (probs, np.where(np.arange(10) == 3, -1, labels)),  # unknown label
            (probs, np.where(np.arange(10) == 3, 3, labels)),  # no such class
        ):
            with pytest.raises(ValueError, match="expected"):
                weigh(wrong_probs, wrong_labels, metric)


@settings(deadline=None, max_examples=60)
@sizes
def test_greedy_is_in_sample_never_worse_than_the_best_single_member(
    seed: int, members: int, rows: int, classes: int, zeros: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, members, rows, classes, zeros=zeros)
    for metric in METRICS.values():
        blend = weighted_average(probs, greedy_weights(probs, labels, metric, steps=7))
        best = min(metric.loss(metric(labels, proba)) for proba in probs)
        assert metric.loss(metric(labels, blend)) <= best + 1e-12


@settings(deadline=None, max_examples=60)
@sizes
def test_convex_log_loss_is_in_sample_never_worse_than_any_other(
    seed: int, members: int, rows: int, classes: int, zeros: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, members, rows, classes, zeros=zeros)
    # What it optimises is log loss with each member's own floor of 1e-7.
    floored = np.maximum(probs[:, np.arange(rows), labels], 1e-7)

    def loss(weights: np.ndarray) -> float:
        return float(-np.mean(np.log(weights @ floored.astype(np.float64))))

    best = loss(convex_weights(probs, labels))
    for weights in (
        *np.eye(members),
        equal_weights(probs, labels, LOG_LOSS),
        greedy_weights(probs, labels, LOG_LOSS),
    ):
        assert best <= loss(weights) + 1e-6


def test_weights_of_log_loss_favour_the_better_of_two() -> None:
    labels = np.zeros(10, int)
    good = np.tile([0.75, 0.25], (10, 1))
    bad = np.tile([0.5, 0.5], (10, 1))
    probs = np.stack([bad, good])
    np.testing.assert_array_equal(greedy_weights(probs, labels, LOG_LOSS), [0.0, 1.0])
    np.testing.assert_allclose(convex_weights(probs, labels), [0.0, 1.0], atol=1e-9)
    np.testing.assert_array_equal(equal_weights(probs, labels, LOG_LOSS), [0.5, 0.5])
