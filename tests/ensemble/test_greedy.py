from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.greedy import _AnyBag, _DecisionBag, greedy_from_true_class, greedy_weights
from ensemble.metrics import ACCURACY, LOG_LOSS, MACRO_F1, METRICS, Metric
from tests.ensemble.made import member_probabilities


def naive_greedy(probs: np.ndarray, labels: np.ndarray, metric: Metric, steps: int) -> np.ndarray:
    """Caruana 2004 as one would write it down, ties as documented."""
    probs = probs.astype(np.float64)

    def losses(bag: list[int]) -> tuple[float, float]:
        mean = probs[bag].mean(axis=0)
        return metric.loss(metric(labels, mean)), LOG_LOSS(labels, mean)

    def order(bag: list[int], member: int) -> tuple[float, bool, float, int]:
        loss, log_loss = losses([*bag, member])
        return loss, member not in bag, log_loss, member

    bags: list[list[int]] = [[]]
    for _ in range(steps):
        bag = bags[-1]
        bags.append([*bag, min(range(len(probs)), key=lambda member, bag=bag: order(bag, member))])
    best = min(bags[1:], key=losses)
    return np.bincount(best, minlength=len(probs)) / len(best)


@pytest.mark.parametrize("metric", [ACCURACY, MACRO_F1], ids=lambda metric: metric.name)
@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    members=st.integers(1, 5),
    rows=st.integers(1, 30),
    classes=st.integers(1, 4),
    coarse=st.booleans(),
)
def test_skipping_safe_rows_changes_no_score(
    metric: Metric, seed: int, members: int, rows: int, classes: int, coarse: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, members, rows, classes, zeros=True)
    rng = np.random.default_rng(seed)
    if coarse:  # many exact ties between classes; eighths add without rounding
        probs = rng.multinomial(8, np.full(classes, 1 / classes), size=(members, rows)) / 8
    fast, plain = _DecisionBag(probs, labels, metric), _AnyBag(probs, labels, metric)
    for member in rng.integers(members, size=6):
        np.testing.assert_array_equal(fast.scores(), plain.scores())
        fast.add(member)
        plain.add(member)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 5), rows=st.integers(5, 40))
def test_the_selection_is_the_one_of_the_paper(
    metric: Metric, seed: int, members: int, rows: int
) -> None:
    probs, labels, _ = member_probabilities(seed, members, rows, 3)
    got = greedy_weights(probs, labels, metric, steps=6)
    np.testing.assert_allclose(got, naive_greedy(probs, labels, metric, 6), atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(20, 60))
def test_log_loss_needs_only_the_true_class(seed: int, members: int, rows: int) -> None:
    probs, labels, _ = member_probabilities(seed, members, rows, 4)
    got = greedy_weights(probs, labels, LOG_LOSS, steps=8)
    np.testing.assert_allclose(got, naive_greedy(probs, labels, LOG_LOSS, 8), atol=1e-12)
    p_true = probs[:, np.arange(rows), labels]
    np.testing.assert_array_equal(got, greedy_from_true_class(p_true, steps=8))


def test_worked_selection() -> None:
    # Two specialists: each is sure of one row and undecided on the other. Their mean is best.
    probs = np.array([[[0.875, 0.125], [0.5, 0.5]], [[0.5, 0.5], [0.875, 0.125]]])
    weights = greedy_weights(probs, np.array([0, 0]), LOG_LOSS, steps=2)
    np.testing.assert_array_equal(weights, [0.5, 0.5])


def test_the_best_prefix_is_returned_and_not_the_last() -> None:
    # The second step must take somebody; both choices keep or hurt, so one step is best.
    labels = np.zeros(4, int)
    good = np.tile([0.75, 0.25], (4, 1))
    worse = np.tile([0.25, 0.75], (4, 1))
    for steps in (1, 2, 25):
        weights = greedy_weights(np.stack([worse, good]), labels, LOG_LOSS, steps=steps)
        np.testing.assert_array_equal(weights, [0.0, 1.0])


def test_a_tie_prefers_the_member_already_chosen() -> None:
    probs, labels, _ = member_probabilities(1, 1, 30, 3)
    for metric in METRICS.values():
        weights = greedy_weights(np.repeat(probs, 4, axis=0), labels, metric)
        np.testing.assert_array_equal(weights, [1.0, 0.0, 0.0, 0.0])


def test_a_tie_in_accuracy_goes_to_the_lower_log_loss() -> None:
    labels = np.zeros(5, int)
    timid = np.tile([0.5625, 0.4375], (5, 1))
    sure = np.tile([0.9375, 0.0625], (5, 1))
    for metric in (ACCURACY, MACRO_F1):
        weights = greedy_weights(np.stack([timid, sure]), labels, metric, steps=1)
        np.testing.assert_array_equal(weights, [0.0, 1.0])


def test_one_class_is_always_right() -> None:
    probs = np.ones((2, 3, 1))
    for metric in METRICS.values():
        assert greedy_weights(probs, np.zeros(3, int), metric).sum() == 1.0


def test_a_metric_of_ones_own_is_optimised_as_it_stands() -> None:
    def brier(labels: np.ndarray, proba: np.ndarray) -> float:
        return float(np.mean(np.sum((proba - np.eye(proba.shape[1])[labels]) ** 2, axis=1)))

    metric = Metric("brier", higher_is_better=False, bounds=(0.0, 2.0), function=brier)
    probs, labels, _ = member_probabilities(7, 4, 50, 3)
    got = greedy_weights(probs, labels, metric, steps=6)
    np.testing.assert_allclose(got, naive_greedy(probs, labels, metric, 6), atol=1e-12)
    with pytest.raises(ValueError, match="brier needs more"):
        greedy_from_true_class(probs[:, :, 0], metric)


def test_no_steps_are_refused() -> None:
    probs, labels, _ = member_probabilities(0, 2, 10, 3)
    with pytest.raises(ValueError, match="at least one step, got 0"):
        greedy_weights(probs, labels, LOG_LOSS, steps=0)
