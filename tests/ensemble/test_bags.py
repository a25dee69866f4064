from __future__ import annotations

import numpy as np
import pytest

from ensemble.bags import AnyBag, Bag, LogLossBag, TrueClassBag
from ensemble.kernels import readable
from ensemble.metrics import BRIER, LOG_LOSS
from tests.ensemble.made import member_probabilities

PROBS, LABELS, _ = member_probabilities(5, 4, 50, 3, zeros=True)
P_TRUE = readable(PROBS[:, np.arange(50), LABELS])
WEIGHTS = np.random.default_rng(0).exponential(size=50)
MEMBERS = np.array([0, 1, 3])


def bags_of_log_loss(row_weights: np.ndarray | None) -> list[Bag]:
    return [
        LogLossBag(P_TRUE, LOG_LOSS, MEMBERS, row_weights),
        TrueClassBag(P_TRUE, LOG_LOSS, MEMBERS, row_weights),
        AnyBag(PROBS, LABELS, P_TRUE, LOG_LOSS, MEMBERS, row_weights),
    ]


@pytest.mark.parametrize("row_weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_every_bag_gives_the_loss_of_the_mean(row_weights: np.ndarray | None) -> None:
    for bag in bags_of_log_loss(row_weights):
        for order in ([], [1], [1, 3, 3]):
            bag.clear()
            for member in order:
                bag.add(member)
            for removed in sorted(set(order)):
                left = list(order)
                left.remove(removed)
                expected = [
                    LOG_LOSS(LABELS, PROBS[[*left, m]].mean(axis=0, dtype=float), row_weights)
                    for m in MEMBERS
                ]
                np.testing.assert_allclose(bag.losses(removed), expected, rtol=1e-12)
            expected = [
                LOG_LOSS(LABELS, PROBS[[*order, m]].mean(axis=0, dtype=float), row_weights)
                for m in MEMBERS
            ]
            np.testing.assert_allclose(bag.losses(), expected, rtol=1e-12)
            np.testing.assert_allclose(bag.log_losses(MEMBERS), expected, rtol=1e-12)
            assert (bag.size, bag.n_members) == (len(order), 4)


def test_any_bag_measures_any_metric() -> None:
    bag = AnyBag(PROBS, LABELS, P_TRUE, BRIER, MEMBERS, None)
    bag.add(2)
    expected = [BRIER(LABELS, PROBS[[2, m]].mean(axis=0, dtype=float)) for m in MEMBERS]
    np.testing.assert_allclose(bag.losses(), expected, rtol=1e-12)
