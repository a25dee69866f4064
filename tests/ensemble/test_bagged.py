from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.bagged import bagged_from_true_class, bagged_greedy
from ensemble.greedy import greedy_weights
from ensemble.metrics import ACCURACY, BRIER, LOG_LOSS, MACRO_F1, Metric
from tests.ensemble.made import member_probabilities

each_kind = pytest.mark.parametrize(
    "metric", [LOG_LOSS, ACCURACY, MACRO_F1, BRIER], ids=lambda m: m.name
)
seeds = st.integers(0, 2**32 - 1)


@each_kind
@settings(deadline=None, max_examples=10)
@given(
    seed=seeds,
    members=st.integers(1, 7),
    rows=st.integers(1, 30),
    part=st.sampled_from([None, 0.3, 1.0]),
    weighted=st.booleans(),
)
def test_weights_are_on_the_simplex_and_the_same_again(
    metric: Metric, seed: int, members: int, rows: int, part: float | None, weighted: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, members, rows, 3, zeros=True)
    row_weights = np.random.default_rng(seed).integers(0, 3, size=rows).astype(float)
    row_weights[0] = 1.0
    options = {
        "bags": 4,
        "steps": 4,
        "seed": seed,
        "row_fraction": part,
        "row_weights": row_weights if weighted else None,
    }
    weights = bagged_greedy(probs, labels, metric, **options)
    assert (weights.shape, weights.dtype) == ((members,), np.float64)
    assert np.all(weights >= 0)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_array_equal(bagged_greedy(probs, labels, metric, **options), weights)
    wide = bagged_greedy(probs.astype(np.float64), labels, metric, **options)
    np.testing.assert_array_equal(wide, weights)


@each_kind
@settings(deadline=None, max_examples=10)
@given(seed=seeds)
def test_permuting_the_members_permutes_the_weights(metric: Metric, seed: int) -> None:
    probs, labels, _ = member_probabilities(seed, 6, 60, 3)
    order = np.random.default_rng(seed).permutation(6)
    weights = bagged_greedy(probs, labels, metric, bags=5, steps=5, seed=seed)
    again = bagged_greedy(probs[order], labels, metric, bags=5, steps=5, seed=seed)
    np.testing.assert_allclose(again, weights[order], atol=1e-12)


@each_kind
def test_one_bag_of_everything_is_greedy_selection(metric: Metric) -> None:
    probs, labels, _ = member_probabilities(4, 5, 60, 3)
    weights = bagged_greedy(probs, labels, metric, bags=1, member_fraction=1.0, row_fraction=None)
    np.testing.assert_array_equal(weights, greedy_weights(probs, labels, metric))


def test_many_bags_spread_the_weight_over_more_members() -> None:
    probs, labels, _ = member_probabilities(0, 10, 100, 3)
    bagged = bagged_greedy(probs, labels, LOG_LOSS)
    assert np.count_nonzero(bagged) > np.count_nonzero(greedy_weights(probs, labels, LOG_LOSS))
    assert not np.array_equal(bagged, bagged_greedy(probs, labels, LOG_LOSS, seed=1))


def test_log_loss_needs_only_the_true_class() -> None:
    probs, labels, _ = member_probabilities(6, 5, 40, 4)
    p_true = probs[:, np.arange(40), labels]
    np.testing.assert_array_equal(
        bagged_from_true_class(p_true, bags=5), bagged_greedy(probs, labels, LOG_LOSS, bags=5)
    )


def test_rows_of_weight_zero_do_not_matter() -> None:
    probs, labels, _ = member_probabilities(8, 4, 50, 3)
    weights = (np.arange(50) % 3 == 0).astype(float)
    kept = weights > 0
    with_zeros = bagged_greedy(probs, labels, ACCURACY, member_fraction=1.0, row_weights=weights)
    without = bagged_greedy(
        probs[:, kept], labels[kept], ACCURACY, member_fraction=1.0, row_weights=weights[kept]
    )
    np.testing.assert_allclose(with_zeros, without, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bags": 0}, "at least one bag, got 0"),
        ({"member_fraction": 0.0}, "member_fraction above 0 and up to 1, got 0.0"),
        ({"member_fraction": 1.5}, "member_fraction above 0 and up to 1, got 1.5"),
        ({"row_fraction": 0.0}, "row_fraction above 0, or None, got 0.0"),
        ({"steps": 0}, "at least one step, got 0"),
        ({"row_weights": np.zeros(10)}, "row weight above 0"),
    ],
)
def test_what_cannot_be_bagged_by_is_refused(options: dict[str, object], message: str) -> None:
    probs, labels, _ = member_probabilities(0, 2, 10, 3)
    with pytest.raises(ValueError, match=message):
        bagged_greedy(probs, labels, LOG_LOSS, **options)
    with pytest.raises(ValueError, match=message):
        bagged_from_true_class(probs[:, :, 0], LOG_LOSS, **options)
