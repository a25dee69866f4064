from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.average import weighted_average
from ensemble.greedy import (
    greedy_from_true_class,
    greedy_selection,
    greedy_weights,
    is_better,
    lowest,
    select_from_true_class,
)
from ensemble.metrics import (
    ACCURACY,
    BALANCED_ACCURACY,
    BRIER,
    LOG_LOSS,
    MACRO_F1,
    METRICS,
    QUADRATIC_KAPPA,
    Metric,
)
from tests.ensemble.brute import brute_greedy
from tests.ensemble.made import member_probabilities

EVERY_KIND = (LOG_LOSS, ACCURACY, MACRO_F1, BALANCED_ACCURACY, QUADRATIC_KAPPA, BRIER)
each_kind = pytest.mark.parametrize("metric", EVERY_KIND, ids=lambda metric: metric.name)
seeds = st.integers(0, 2**32 - 1)


def true_class_metric(
    p_true: np.ndarray, row_weights: np.ndarray | None = None
) -> float:  # no log loss, so not compiled
    return float(np.average((1.0 - p_true) ** 2, weights=row_weights))


SQUARES = Metric(
    "squares",
    higher_is_better=False,
    bounds=(0.0, 1.0),
    function=lambda labels, proba, row_weights=None: true_class_metric(
        proba[np.arange(len(labels)), labels], row_weights
    ),
    from_true_class=true_class_metric,
)


@pytest.mark.parametrize("metric", [*EVERY_KIND, SQUARES], ids=lambda metric: metric.name)
@settings(deadline=None, max_examples=15)
@given(
    seed=seeds,
    members=st.integers(1, 5),
    rows=st.integers(5, 40),
    classes=st.sampled_from([2, 3, 20]),
    start=st.integers(0, 2),
    weighted=st.booleans(),
)
def test_the_selection_is_the_one_of_the_paper(
    metric: Metric, seed: int, members: int, rows: int, classes: int, start: int, weighted: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, members, rows, classes)
    weights = np.random.default_rng(seed).exponential(size=rows) if weighted else None
    options = {"steps": 6, "start": min(start, members), "row_weights": weights}
    order, brute = brute_greedy(probs, labels, metric, **options)
    got = greedy_selection(probs, labels, metric, **options)
    assert got.order.tolist() == order
    np.testing.assert_allclose(got.weights, brute, atol=1e-12)


@each_kind
@settings(deadline=None, max_examples=10)
@given(seed=seeds, classes=st.sampled_from([1, 2, 4, 30]), coarse=st.booleans())
def test_scores_are_the_metric_of_the_mean_after_each_step(
    metric: Metric, seed: int, classes: int, coarse: bool
) -> None:
    rng = np.random.default_rng(seed)
    probs, labels, _ = member_probabilities(seed, 5, 30, classes, zeros=True)
    if coarse:  # many exact ties between classes; eighths add without rounding
        probs = rng.multinomial(8, np.full(classes, 1 / classes), size=(5, 30)) / 8
    got = greedy_selection(probs, labels, metric, steps=9)
    total = np.zeros(probs.shape[1:])
    for size, member in enumerate(got.order, 1):
        total += probs[member]
        assert got.scores[size - 1] == pytest.approx(metric(labels, total / size), abs=1e-12)
    best = min(range(9), key=lambda i: round(metric.loss(got.scores[i]), 11))
    assert got.scores[got.length - 1] == pytest.approx(got.scores[best], abs=1e-10)
    counts = np.bincount(got.order[: got.length], minlength=5)
    np.testing.assert_array_equal(got.weights, counts / got.length)


@each_kind
@settings(deadline=None, max_examples=10)
@given(seed=seeds, start=st.integers(0, 3))
def test_permuting_the_members_permutes_the_weights(metric: Metric, seed: int, start: int) -> None:
    probs, labels, _ = member_probabilities(seed, 5, 60, 3)
    order = np.random.default_rng(seed).permutation(5)
    weights = greedy_weights(probs, labels, metric, start=start)
    again = greedy_weights(probs[order], labels, metric, start=start)
    np.testing.assert_allclose(again, weights[order], atol=1e-12)


@each_kind
@settings(deadline=None, max_examples=10)
@given(seed=seeds, member=st.integers(0, 3))
def test_a_duplicate_member_changes_no_loss(metric: Metric, seed: int, member: int) -> None:
    probs, labels, _ = member_probabilities(seed, 4, 50, 3)
    alone = greedy_selection(probs, labels, metric)
    doubled = greedy_selection(np.concatenate([probs, probs[member : member + 1]]), labels, metric)
    np.testing.assert_allclose(doubled.scores, alone.scores, rtol=1e-12)
    np.testing.assert_array_equal(doubled.weights[:4], alone.weights)


@each_kind
@settings(deadline=None, max_examples=10)
@given(seed=seeds, steps=st.integers(1, 7))
def test_one_member_returns_its_own_probabilities(metric: Metric, seed: int, steps: int) -> None:
    probs, labels, _ = member_probabilities(seed, 1, 20, 3, zeros=True)
    weights = greedy_weights(probs, labels, metric, steps=steps)
    np.testing.assert_array_equal(weights, [1.0])
    np.testing.assert_array_equal(weighted_average(probs, weights), probs[0])


@each_kind
@settings(deadline=None, max_examples=10)
@given(seed=seeds, classes=st.sampled_from([3, 20]))
def test_whole_row_weights_mean_repeated_rows(metric: Metric, seed: int, classes: int) -> None:
    probs, labels, _ = member_probabilities(seed, 4, 40, classes)
    times = np.random.default_rng(seed).integers(0, 4, size=40)
    times[0] = 1  # not all zero
    weighted = greedy_selection(probs, labels, metric, row_weights=times.astype(np.float64))
    rows = np.repeat(np.arange(40), times)
    repeated = greedy_selection(probs[:, rows], labels[rows], metric)
    np.testing.assert_array_equal(weighted.order, repeated.order)
    np.testing.assert_allclose(weighted.scores, repeated.scores, rtol=1e-12)


@each_kind
@settings(deadline=None, max_examples=10)
@given(seed=seeds, classes=st.sampled_from([3, 20]))
def test_float32_and_the_same_in_float64_select_alike(
    metric: Metric, seed: int, classes: int
) -> None:
    probs, labels, _ = member_probabilities(seed, 4, 40, classes, zeros=True)
    narrow = greedy_selection(probs, labels, metric)
    wide = greedy_selection(probs.astype(np.float64), labels, metric)
    np.testing.assert_array_equal(narrow.order, wide.order)
    np.testing.assert_array_equal(narrow.scores, wide.scores)


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(1, 5), st.integers(20, 60))
def test_log_loss_needs_only_the_true_class(seed: int, members: int, rows: int) -> None:
    probs, labels, _ = member_probabilities(seed, members, rows, 4)
    got = greedy_weights(probs, labels, LOG_LOSS, steps=8)
    p_true = probs[:, np.arange(rows), labels]
    np.testing.assert_array_equal(got, greedy_from_true_class(p_true, steps=8))
    np.testing.assert_array_equal(got, select_from_true_class(p_true, steps=8).weights)


@each_kind
def test_start_takes_the_best_alone_first(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(11, 6, 80, 3)
    alone = [metric.loss(metric(labels, proba)) for proba in probs]
    got = greedy_selection(probs, labels, metric, steps=8, start=4)
    assert len(set(got.order[:4].tolist())) == 4
    assert [alone[member] for member in got.order[:4]] == sorted(alone)[:4]
    one = greedy_selection(probs, labels, metric, steps=8, start=1)
    none = greedy_selection(probs, labels, metric, steps=8)
    np.testing.assert_array_equal(one.order, none.order)


@each_kind
@pytest.mark.parametrize("start", [0, 2])
def test_a_time_limit_of_zero_leaves_one_step(metric: Metric, start: int) -> None:
    probs, labels, _ = member_probabilities(3, 4, 30, 3)
    got = greedy_selection(probs, labels, metric, start=start, time_limit_seconds=0.0)
    whole = greedy_selection(probs, labels, metric, start=start, time_limit_seconds=600.0)
    assert (len(got.order), len(got.scores), got.length) == (1, 1, 1)
    assert got.order[0] == whole.order[0]
    assert got.weights.sum() == 1.0
    assert len(whole.order) == 25


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
        got = greedy_selection(np.stack([worse, good]), labels, LOG_LOSS, steps=steps)
        np.testing.assert_array_equal(got.weights, [0.0, 1.0])
        assert (len(got.order), got.length) == (steps, 1)


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


@each_kind
def test_exact_zeros_and_ones_are_survived(metric: Metric) -> None:
    labels = np.array([0, 1, 2, 0])
    wrong = np.eye(3)[[1, 2, 0, 1]]
    right = np.eye(3)[labels]
    np.testing.assert_array_equal(
        greedy_weights(np.stack([wrong, right, wrong]), labels, metric), [0.0, 1.0, 0.0]
    )
    assert greedy_weights(np.stack([wrong, wrong]), labels, metric).tolist() == [1.0, 0.0]


def test_a_perfect_member_loses_nothing_and_is_taken_once() -> None:
    got = select_from_true_class(np.ones((1, 1000)), steps=7)
    np.testing.assert_allclose(got.scores, np.zeros(7), atol=1e-15)
    assert got.length == 1


@each_kind
def test_a_negative_zero_is_a_zero(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(2, 3, 30, 20, zeros=True)
    negative = np.where(probs == 0.0, np.float32(-0.0), probs)
    np.testing.assert_array_equal(
        greedy_weights(negative, labels, metric), greedy_weights(probs, labels, metric)
    )


def test_one_class_is_always_right() -> None:
    probs = np.ones((2, 3, 1))
    for metric in METRICS.values():
        assert greedy_weights(probs, np.zeros(3, int), metric).sum() == 1.0


def test_a_metric_that_is_nan_chooses_by_log_loss() -> None:
    nowhere = Metric(
        "nowhere", True, (0.0, 1.0), lambda labels, proba, row_weights=None: float("nan")
    )
    probs, labels, _ = member_probabilities(4, 3, 30, 3)
    got = greedy_weights(probs, labels, nowhere, steps=1)
    assert got[np.argmin([LOG_LOSS(labels, proba) for proba in probs])] == 1.0


def test_what_cannot_be_selected_by_is_refused() -> None:
    probs, labels, _ = member_probabilities(0, 2, 10, 3)
    with pytest.raises(ValueError, match="at least one step, got 0"):
        greedy_weights(probs, labels, LOG_LOSS, steps=0)
    for start in (-1, 3):
        with pytest.raises(ValueError, match=f"start from 0 to 2, .* got {start}"):
            greedy_weights(probs, labels, LOG_LOSS, start=start)
    with pytest.raises(ValueError, match="time_limit_seconds of at least 0, got -1"):
        greedy_selection(probs, labels, LOG_LOSS, time_limit_seconds=-1.0)
    with pytest.raises(ValueError, match="accuracy needs more than the true class"):
        greedy_from_true_class(probs[:, :, 0], ACCURACY)


@each_kind
def test_wrong_row_weights_are_refused(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(0, 2, 10, 3)
    for wrong in (np.ones(9), np.zeros(10), -np.ones(10), np.full(10, np.nan)):
        with pytest.raises(ValueError, match="row weight"):
            greedy_weights(probs, labels, metric, row_weights=wrong)


def test_losses_within_rounding_are_equal() -> None:
    third = 0.1 + 0.2
    assert lowest(np.array([third, 0.3, 0.31])).tolist() == [0, 1]
    assert lowest(np.array([np.nan, np.inf, 2.0])).tolist() == [2]
    assert lowest(np.array([np.nan, np.nan])).tolist() == [0, 1]
    assert is_better((0.2, 9.0), (0.3, 1.0))
    assert is_better((third, 0.5), (0.3, 0.6))
    assert not is_better((third, 0.6), (0.3, 0.6))
    assert is_better((0.3, 0.6), (float("nan"), 0.6))
