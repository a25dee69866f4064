from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.average import BLOCK_VALUES
from ensemble.calibration import PROBABILITY_FLOOR
from ensemble.logit_mean import log_mean
from tests.ensemble.made import member_probabilities


def test_worked_value() -> None:
    # sqrt(0.8 * 0.2) against sqrt(0.2 * 0.8), and sqrt(0.9 * 0.9) against sqrt(0.1 * 0.1)
    probs = np.array([[[0.8, 0.2], [0.9, 0.1]], [[0.2, 0.8], [0.9, 0.1]]])
    np.testing.assert_allclose(
        log_mean(probs, np.array([0.5, 0.5])), [[0.5, 0.5], [0.9, 0.1]], atol=1e-12
    )


def test_weights_are_exponents() -> None:
    probs = np.array([[[0.8, 0.2]], [[0.5, 0.5]]])
    expected = 0.8**0.25 / (0.8**0.25 + 0.2**0.25)
    assert log_mean(probs, np.array([0.25, 0.75]))[0, 0] == pytest.approx(expected)


def test_a_class_that_one_member_excludes_is_floored_and_not_lost() -> None:
    probs = np.array([[[0.0, 1.0]], [[0.5, 0.5]]])
    share = np.sqrt(PROBABILITY_FLOOR)
    blend = log_mean(probs, np.array([0.5, 0.5]))
    assert blend[0, 0] == pytest.approx(share / (1 + share))
    assert blend[0].sum() == pytest.approx(1.0)


def test_a_member_without_weight_has_no_veto() -> None:
    probs = np.array([[[0.0, 1.0]], [[0.25, 0.75]]])
    np.testing.assert_allclose(log_mean(probs, np.array([0.0, 1.0])), probs[1])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 5), st.booleans())
def test_it_is_the_softmax_of_the_mean_logarithm(
    seed: int, members: int, classes: int, zeros: bool
) -> None:
    probs, _, _ = member_probabilities(seed, members, 20, classes, zeros=zeros)
    weights = np.random.default_rng(seed).dirichlet(np.ones(members))
    logs = np.log(np.maximum(probs.astype(np.float64), PROBABILITY_FLOOR))
    powers = np.exp(np.einsum("m,mnc->nc", weights, logs))
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(log_mean(probs, weights), expected, rtol=1e-5)
    np.testing.assert_allclose(log_mean(probs.astype(float), weights), expected, rtol=1e-9)


def test_more_rows_than_one_block_holds() -> None:
    probs, _, _ = member_probabilities(0, 2, BLOCK_VALUES // 3 + 100, 3)
    weights = np.array([0.3, 0.7])
    whole = log_mean(probs, weights)
    np.testing.assert_array_equal(whole[-50:], log_mean(probs[:, -50:], weights))


def test_weights_off_the_simplex_are_refused() -> None:
    probs, _, _ = member_probabilities(0, 2, 5, 3)
    with pytest.raises(ValueError, match="sum of 1"):
        log_mean(probs, np.array([0.5, 0.6]))
