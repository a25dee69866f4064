from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.vote import hard_vote
from tests.ensemble.made import member_probabilities


def test_worked_value() -> None:
    probs = np.array([[[0.5, 0.25, 0.25]], [[0.75, 0.25, 0.0]], [[0.0, 1.0, 0.0]]])
    mean = np.array([1.25, 1.5, 0.25]) / 3
    votes = np.array([2.0, 1.0, 0.0])
    np.testing.assert_allclose(hard_vote(probs, np.full(3, 1 / 3))[0], (votes + mean) / 4)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(2, 4))
def test_the_majority_wins_and_the_mean_decides_between_equals(
    seed: int, members: int, classes: int
) -> None:
    probs, _, _ = member_probabilities(seed, members, 30, classes)
    votes = np.eye(classes)[probs.argmax(axis=2)].sum(axis=0)
    decided = hard_vote(probs, np.full(members, 1 / members)).argmax(axis=1)
    mean = probs.mean(axis=0, dtype=np.float64)
    for row, winner in enumerate(decided):
        tied = np.flatnonzero(votes[row] == votes[row].max())
        assert winner == tied[mean[row, tied].argmax()]


def test_a_torn_member_divides_its_vote() -> None:
    blend = hard_vote(np.array([[[0.5, 0.5, 0.0]]]), np.array([1.0]))
    np.testing.assert_allclose(blend, [[0.5, 0.5, 0.0]])


def test_weights_count_as_votes() -> None:
    probs = np.array([[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]])
    assert hard_vote(probs, np.array([0.8, 0.1, 0.1]))[0].argmax() == 0
    assert hard_vote(probs, np.array([0.0, 0.5, 0.5]))[0].argmax() == 1


def test_weights_off_the_simplex_are_refused() -> None:
    with pytest.raises(ValueError, match="expected weights of shape"):
        hard_vote(np.full((2, 1, 2), 0.5), np.array([1.0]))
