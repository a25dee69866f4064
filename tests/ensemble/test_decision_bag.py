from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.bags import AnyBag
from ensemble.decision_bag import DecisionBag, read, row_units
from ensemble.kernels import readable
from ensemble.metrics import ACCURACY, BALANCED_ACCURACY, MACRO_F1, QUADRATIC_KAPPA, Metric
from tests.ensemble.made import member_probabilities


@pytest.mark.parametrize(
    "metric", [ACCURACY, MACRO_F1, BALANCED_ACCURACY, QUADRATIC_KAPPA], ids=lambda m: m.name
)
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 30),
    classes=st.sampled_from([1, 2, 4, 30]),
    weighted=st.booleans(),
)
def test_losses_are_those_of_the_means(
    metric: Metric, seed: int, rows: int, classes: int, weighted: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, 5, rows, classes, zeros=True)
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=rows) if weighted else None
    members = np.array([0, 2, 3, 4])
    of, _ = read(readable(probs), labels)
    fast = DecisionBag(of, labels, metric, members, weights)
    plain = AnyBag(probs, labels, of.p_true, metric, members, weights)
    close = {"rtol": 1e-12, "atol": 1e-12}
    for round_ in range(2):  # a cleared bag is as new
        bag: list[int] = []
        for member in rng.integers(5, size=5).tolist():
            np.testing.assert_allclose(fast.losses(), plain.losses(), **close)
            bag.append(member)
            fast.add(member)
            plain.add(member)
            for removed in sorted(set(bag)):
                np.testing.assert_allclose(fast.losses(removed), plain.losses(removed), **close)
                np.testing.assert_allclose(
                    fast.log_losses(members, removed), plain.log_losses(members, removed)
                )
        fast.clear()
        plain.clear()
        assert (fast.size, round_ < 2) == (0, True)


def test_a_bag_holds_more_than_there_was_room_for() -> None:
    probs, labels, _ = member_probabilities(0, 3, 40, 20)
    of, _ = read(readable(probs), labels)
    bag = DecisionBag(of, labels, ACCURACY, np.arange(3), None)
    for i in range(100):
        bag.add(i % 3)
    total = sum(probs[i % 3].astype(np.float64) for i in range(100))
    expected = [-np.mean((total + proba).argmax(axis=1) == labels) for proba in probs]
    np.testing.assert_allclose(bag.losses(), expected, rtol=1e-14)


def test_a_metric_that_falls_is_minimised() -> None:
    error = Metric(
        "accuracy_as_if_bad",
        higher_is_better=False,
        bounds=(0.0, 1.0),
        function=ACCURACY.function,
        from_decisions=ACCURACY.from_decisions,
    )
    probs, labels, _ = member_probabilities(0, 3, 40, 4)
    of, _ = read(readable(probs), labels)
    up, down = (DecisionBag(of, labels, metric, np.arange(3), None) for metric in (ACCURACY, error))
    np.testing.assert_array_equal(down.losses(), -up.losses())
    up.add(0)
    down.add(0)
    np.testing.assert_array_equal(down.losses(), -up.losses())


def test_row_weights_become_whole_units() -> None:
    assert row_units(None, 3).tolist() == [1, 1, 1]
    assert row_units(np.array([2.0, 0.0, 5.0]), 3).tolist() == [2, 0, 5]
    units = row_units(np.array([0.1, 0.2, 0.0]), 3)
    assert units[2] == 0
    assert units[1] / units[0] == pytest.approx(2.0, rel=1e-15)
    assert row_units(np.full(3, 1e300), 3)[0] > 0
