from __future__ import annotations

import numpy as np
import pytest

from ensemble.bags import AnyBag, LogLossBag, TrueClassBag
from ensemble.candidates import candidates, candidates_from_true_class
from ensemble.decision_bag import DecisionBag
from ensemble.metrics import ACCURACY, BRIER, LOG_LOSS, MACRO_F1, Metric
from tests.ensemble.made import member_probabilities

PROBS, LABELS, _ = member_probabilities(1, 3, 20, 30)
HALF = Metric(
    "half",
    higher_is_better=False,
    bounds=(0.0, 1.0),
    function=lambda labels, proba, row_weights=None: 0.5,
    from_true_class=lambda p_true, row_weights=None: 0.5,
)


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        (LOG_LOSS, LogLossBag),
        (HALF, TrueClassBag),
        (ACCURACY, DecisionBag),
        (MACRO_F1, DecisionBag),
        (BRIER, AnyBag),
    ],
    ids=lambda value: value.name if isinstance(value, Metric) else "",
)
def test_each_metric_gets_the_fastest_bag_there_is(metric: Metric, kind: type) -> None:
    got = candidates(PROBS, LABELS, metric)
    assert type(got.bag()) is kind
    np.testing.assert_array_equal(got.p_true, PROBS[:, np.arange(20), LABELS])
    assert (got.probs is None) == (metric.from_true_class is not None)
    assert got.n_rows == 20


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_matrix_of_true_classes_is_not_copied(dtype: type) -> None:
    p_true = np.random.default_rng(0).random((3, 10)).astype(dtype)
    assert np.shares_memory(candidates_from_true_class(p_true, LOG_LOSS).p_true, p_true)


def test_probabilities_are_not_copied() -> None:
    for metric in (ACCURACY, BRIER):
        probs = candidates(PROBS, LABELS, metric).probs
        assert probs is not None
        assert np.shares_memory(probs, PROBS)


@pytest.mark.parametrize("value", [np.nan, -0.25, 1.25, np.inf])
def test_what_is_no_probability_is_refused_by_member(value: float) -> None:
    p_true = np.full((3, 10), 0.5, np.float32)
    p_true[2, 4] = value
    with pytest.raises(ValueError, match="member 2: expected"):
        candidates_from_true_class(p_true, LOG_LOSS)
    probs = PROBS.copy()
    probs[1, 3, 29] = value
    for metric in (LOG_LOSS, ACCURACY, BRIER):
        with pytest.raises(ValueError, match="member 1: expected"):
            candidates(probs, LABELS, metric)


def test_a_little_more_than_one_is_rounding() -> None:
    probs = np.full((1, 2, 20), 0.0, np.float32)
    probs[:, :, 3] = np.nextafter(np.float32(1.0), np.float32(2.0))
    for metric in (LOG_LOSS, ACCURACY):
        candidates(probs, np.array([3, 3]), metric)


@pytest.mark.parametrize("shape", [(3,), (0, 5), (5, 0), (2, 3, 4)])
def test_a_matrix_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"of shape \(members, rows\)"):
        candidates_from_true_class(np.zeros(shape), LOG_LOSS)


def test_a_metric_that_needs_more_is_refused() -> None:
    with pytest.raises(ValueError, match="accuracy needs more than the true class"):
        candidates_from_true_class(PROBS[:, :, 0], ACCURACY)


def test_a_bag_takes_some_members_only() -> None:
    bag = candidates(PROBS, LABELS, ACCURACY).bag(np.array([2, 0]))
    whole = candidates(PROBS, LABELS, ACCURACY).bag()
    np.testing.assert_array_equal(bag.losses(), whole.losses()[[2, 0]])
    assert bag.n_members == 3
