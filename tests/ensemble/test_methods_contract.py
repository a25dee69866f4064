"""What every way of combining members promises, stated once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.average import equal_weights, weighted_average
from ensemble.class_weights import fit_class_weights
from ensemble.combine import Combination
from ensemble.convex import convex_weights
from ensemble.greedy import greedy_weights
from ensemble.logit_mean import log_mean
from ensemble.metrics import ACCURACY, LOG_LOSS, MACRO_F1, METRICS, Metric
from ensemble.rank_mean import fit_rank_grid, rank_mean
from ensemble.single import best_single
from ensemble.stacking import fit_stacking, stacking_shares
from ensemble.swap import swap_weights
from ensemble.vote import hard_vote
from tests.ensemble.made import member_probabilities

RowWeights = np.ndarray | None
Fit = Callable[[np.ndarray, np.ndarray, Metric, RowWeights], Combination]


def _equal(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return equal_weights(probs, labels, LOG_LOSS)


def _rank_mean(probs: np.ndarray, labels: np.ndarray, _: Metric, rows: RowWeights) -> Combination:
    return Combination("rank_mean", _equal(probs, labels), {"grid": fit_rank_grid(probs, rows)})


def _class_mean(probs: np.ndarray, labels: np.ndarray, _: Metric, rows: RowWeights) -> Combination:
    matrix = fit_class_weights(probs, labels, row_weights=rows)
    return Combination("class_mean", matrix.mean(axis=1), {"class_weights": matrix})


def _stacking(probs: np.ndarray, labels: np.ndarray, _: Metric, rows: RowWeights) -> Combination:
    coef, intercept = fit_stacking(probs, labels, row_weights=rows)
    return Combination("stacking", stacking_shares(coef), {"coef": coef, "intercept": intercept})


def _shared(probs: np.ndarray, labels: np.ndarray, _: Metric, rows: RowWeights) -> Combination:
    coef, intercept = fit_stacking(probs, labels, row_weights=rows, max_parameters=0)
    return Combination("stacking", stacking_shares(coef), {"coef": coef, "intercept": intercept})


@dataclass(frozen=True)
class Way:
    """`copies`: "one" where a copy of one member changes no loss, "all" where that takes a copy of
    each; `judge`: that loss. `close`: of weights and results where only the order of sums
    differs."""

    fit: Fit
    metrics: tuple[Metric, ...] = (LOG_LOSS,)
    copies: str = "one"
    judge: Metric = LOG_LOSS
    close: float = 1e-6


EVERY = tuple(METRICS.values())
WAYS = {
    "equal": Way(lambda p, y, m, r: Combination("mean", _equal(p, y)), copies="all"),
    "log_mean": Way(lambda p, y, m, r: Combination("log_mean", _equal(p, y)), copies="all"),
    "rank_mean": Way(_rank_mean, copies="all"),
    # The mean is one more vote among more of them: the decisions stay.
    "vote": Way(lambda p, y, m, r: Combination("vote", _equal(p, y)), copies="all", judge=ACCURACY),
    "best_single": Way(
        lambda p, y, m, r: Combination("mean", best_single(p, y, m, row_weights=r)), EVERY
    ),
    "greedy": Way(
        lambda p, y, m, r: Combination("mean", greedy_weights(p, y, m, row_weights=r)), EVERY
    ),
    "swap": Way(
        lambda p, y, m, r: Combination("mean", swap_weights(p, y, m, row_weights=r)), EVERY
    ),
    "convex": Way(
        lambda p, y, m, r: Combination("mean", convex_weights(p, y, row_weights=r)), close=2e-3
    ),
    "class_mean": Way(_class_mean, close=2e-3),
    "stacking": Way(_stacking, copies="all", close=2e-3),
    "stacking_shared": Way(_shared, copies="all", close=2e-3),
}
CASES = [
    pytest.param(way, metric, id=f"{name}-{metric.name}")
    for name, way in WAYS.items()
    for metric in way.metrics
]
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(("way", "metric"), CASES)
class TestContract:
    @settings(deadline=None, max_examples=15)
    @given(seeds, st.integers(1, 6), st.integers(1, 40), st.integers(2, 5), st.booleans())
    def test_weights_are_on_the_simplex_and_the_result_is_probabilities_and_the_same_again(
        self,
        way: Way,
        metric: Metric,
        seed: int,
        members: int,
        rows: int,
        classes: int,
        zeros: bool,
    ) -> None:
        probs, labels, _ = member_probabilities(seed, members, rows, classes, zeros=zeros)
        fitted = way.fit(probs, labels, metric, None)
        assert fitted.weights.shape == (members,)
        assert fitted.weights.dtype == np.float64
        assert np.all(fitted.weights >= 0)
        assert fitted.weights.sum() == pytest.approx(1.0, abs=1e-9)
        again = way.fit(probs, labels, metric, None)
        np.testing.assert_array_equal(again.weights, fitted.weights)
        blend = fitted(probs)
        assert blend.shape == (rows, classes)
        assert blend.dtype == np.float64
        assert np.all((blend >= 0) & (blend <= 1 + 1e-6))
        np.testing.assert_allclose(blend.sum(axis=1), 1.0, atol=1e-5)
        np.testing.assert_array_equal(again(probs), blend)

    @settings(deadline=None, max_examples=10)
    @given(seeds, st.integers(1, 20))
    def test_one_member_gets_all_the_weight_and_returns_its_own_probabilities(
        self, way: Way, metric: Metric, seed: int, rows: int
    ) -> None:
        probs, labels, _ = member_probabilities(seed, 1, rows, 3, zeros=True)
        fitted = way.fit(probs, labels, metric, None)
        np.testing.assert_array_equal(fitted.weights, [1.0])
        blend = fitted(probs)
        if fitted.kind in ("mean", "log_mean", "class_mean"):
            np.testing.assert_allclose(blend, probs[0], rtol=1e-5, atol=1e-9)
        elif fitted.kind in ("rank_mean", "vote"):
            best = np.take_along_axis(probs[0], blend.argmax(axis=1)[:, None], axis=1)
            np.testing.assert_array_equal(best[:, 0], probs[0].max(axis=1))

    @settings(deadline=None, max_examples=10)
    @given(seeds, st.integers(2, 6))
    def test_the_order_of_members_does_not_matter(
        self, way: Way, metric: Metric, seed: int, members: int
    ) -> None:
        probs, labels, _ = member_probabilities(seed, members, 150, 3)
        order = np.random.default_rng(seed).permutation(members)
        fitted = way.fit(probs, labels, metric, None)
        other = way.fit(probs[order], labels, metric, None)
        np.testing.assert_allclose(other.weights, fitted.weights[order], atol=way.close)
        np.testing.assert_allclose(other(probs[order]), fitted(probs), atol=way.close)

    @settings(deadline=None, max_examples=10)
    @given(seeds)
    def test_the_order_of_rows_does_not_matter(self, way: Way, metric: Metric, seed: int) -> None:
        probs, labels, _ = member_probabilities(seed, 4, 150, 3)
        order = np.random.default_rng(seed).permutation(150)
        fitted = way.fit(probs, labels, metric, None)
        other = way.fit(probs[:, order], labels[order], metric, None)
        np.testing.assert_allclose(other.weights, fitted.weights, atol=way.close)
        np.testing.assert_allclose(other(probs), fitted(probs), atol=way.close)

    @settings(deadline=None, max_examples=10)
    @given(seeds)
    def test_whole_row_weights_are_repeated_rows(self, way: Way, metric: Metric, seed: int) -> None:
        probs, labels, _ = member_probabilities(seed, 4, 80, 3)
        counts = np.random.default_rng(seed).integers(4, size=80)
        weighted = way.fit(probs, labels, metric, counts.astype(np.float64))
        rows = np.repeat(np.arange(80), counts)
        repeated = way.fit(probs[:, rows], labels[rows], metric, None)
        np.testing.assert_allclose(weighted.weights, repeated.weights, atol=way.close)
        np.testing.assert_allclose(weighted(probs), repeated(probs), atol=way.close)

    @settings(deadline=None, max_examples=10)
    @given(seeds, st.integers(2, 5), st.integers(0, 4))
    def test_a_copy_of_a_member_changes_no_loss(
        self, way: Way, metric: Metric, seed: int, members: int, copied: int
    ) -> None:
        probs, labels, _ = member_probabilities(seed, members, 120, 3)
        extra = probs if way.copies == "all" else probs[[copied % members]]
        more = np.concatenate([probs, extra])
        judge = metric if metric in (ACCURACY, MACRO_F1) else way.judge
        before = judge(labels, way.fit(probs, labels, metric, None)(probs))
        after = judge(labels, way.fit(more, labels, metric, None)(more))
        assert after == pytest.approx(before, abs=1e-6)

    def test_identical_members_are_as_one(self, way: Way, metric: Metric) -> None:
        probs, labels, _ = member_probabilities(3, 1, 50, 4)
        copies = np.repeat(probs, 5, axis=0)
        fitted = way.fit(copies, labels, metric, None)
        if fitted.kind in ("mean", "log_mean", "class_mean"):
            np.testing.assert_allclose(fitted(copies), probs[0], atol=1e-6)

    def test_a_row_is_predicted_the_same_alone_and_among_others(
        self, way: Way, metric: Metric
    ) -> None:
        probs, labels, _ = member_probabilities(4, 3, 60, 3, zeros=True)
        fitted = way.fit(probs, labels, metric, None)
        together = fitted(probs)
        for row in (0, 17):
            alone = fitted(probs[:, row : row + 1])
            assert alone.shape == (1, 3)
            np.testing.assert_allclose(alone[0], together[row], rtol=1e-9, atol=1e-15)

    def test_a_true_class_that_no_member_believes_in_is_survived(
        self, way: Way, metric: Metric
    ) -> None:
        probs = np.tile(np.array([[0.5, 0.5], [0.75, 0.25], [0.0, 1.0]]), (3, 1, 1))
        probs[1, :2] = [0.25, 0.75]
        fitted = way.fit(probs, np.array([0, 1, 0]), metric, None)
        assert fitted.weights.sum() == pytest.approx(1.0)
        assert np.isfinite(fitted(probs)).all()

    def test_members_that_are_all_certain_are_survived(self, way: Way, metric: Metric) -> None:
        labels = np.arange(30) % 3
        probs = np.stack([np.eye(3)[labels], np.eye(3)[(labels + (np.arange(30) < 5)) % 3]])
        blend = way.fit(probs.astype(np.float32), labels, metric, None)(probs)
        np.testing.assert_allclose(blend.sum(axis=1), 1.0, atol=1e-9)
        assert ACCURACY(labels, blend) >= 25 / 30

    def test_a_class_without_labels_is_survived(self, way: Way, metric: Metric) -> None:
        probs, labels, _ = member_probabilities(6, 4, 90, 4)
        labels[labels == 2] = 1
        blend = way.fit(probs, labels, metric, None)(probs)
        assert np.isfinite(blend).all()
        assert np.all(blend[:, 2] > 0)

    def test_a_single_row_is_enough(self, way: Way, metric: Metric) -> None:
        probs = np.array([[[0.25, 0.75]], [[0.5, 0.5]]])
        fitted = way.fit(probs, np.array([0]), metric, None)
        assert fitted.weights.sum() == pytest.approx(1.0)
        assert fitted(probs).sum() == pytest.approx(1.0)

    def test_json_and_back_predicts_the_same(self, way: Way, metric: Metric) -> None:
        probs, labels, _ = member_probabilities(7, 4, 90, 3, zeros=True)
        fitted = way.fit(probs, labels, metric, None)
        text = json.dumps(fitted.to_dict(), allow_nan=False)
        again = Combination.from_dict(json.loads(text))
        np.testing.assert_array_equal(again(probs), fitted(probs))
        kept = again.only(again.needed)
        np.testing.assert_array_equal(kept(probs[again.needed]), fitted(probs))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_nothing_that_was_given_is_changed(self, way: Way, metric: Metric, dtype: type) -> None:
        probs, labels, _ = member_probabilities(5, 3, 30, 3, zeros=True)
        probs, rows = probs.astype(dtype), np.arange(30.0)
        before = probs.copy(), labels.copy(), rows.copy()
        way.fit(probs, labels, metric, rows)(probs)
        np.testing.assert_array_equal(probs, before[0])
        np.testing.assert_array_equal(labels, before[1])
        np.testing.assert_array_equal(rows, before[2])

    def test_nan_is_refused_by_member(self, way: Way, metric: Metric) -> None:
        probs, labels, _ = member_probabilities(0, 3, 10, 3)
        fitted = way.fit(probs, labels, metric, None)
        probs[int(fitted.weights.argmax()), 4, 2] = np.nan
        broken = rf"member {fitted.weights.argmax()}: .*NaN"
        with pytest.raises(ValueError, match=broken):
            way.fit(probs, labels, metric, None)
        with pytest.raises(ValueError, match=broken):
            fitted(probs)

    @pytest.mark.parametrize("value", [-0.5, 1.5, np.inf])
    def test_what_is_no_probability_is_refused(
        self, way: Way, metric: Metric, value: float
    ) -> None:
        probs, labels, _ = member_probabilities(0, 3, 10, 3)
        fitted = way.fit(probs, labels, metric, None)
        probs[int(fitted.weights.argmax()), 0, 0] = value
        broken = rf"member {fitted.weights.argmax()}: expected values from 0 to 1"
        with pytest.raises(ValueError, match=broken):
            way.fit(probs, labels, metric, None)
        with pytest.raises(ValueError, match=broken):
            fitted(probs)

    def test_shapes_that_do_not_fit_are_refused(self, way: Way, metric: Metric) -> None:
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
                way.fit(wrong_probs, wrong_labels, metric, None)


@pytest.mark.parametrize(
    "name", [name for name in WAYS if name not in ("equal", "log_mean", "vote")]
)
def test_row_weights_that_are_none_are_refused(name: str) -> None:
    probs, labels, _ = member_probabilities(0, 3, 10, 3)
    for wrong in (np.zeros(10), np.ones(9), np.full(10, -1.0), np.full(10, np.nan)):
        with pytest.raises(ValueError, match="row weight"):
            WAYS[name].fit(probs, labels, LOG_LOSS, wrong)


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 6), st.integers(1, 40), st.integers(2, 5), st.booleans())
def test_greedy_is_in_sample_never_worse_than_the_best_single_member(
    seed: int, members: int, rows: int, classes: int, zeros: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, members, rows, classes, zeros=zeros)
    for metric in EVERY:
        blend = weighted_average(probs, greedy_weights(probs, labels, metric, steps=7))
        single = weighted_average(probs, best_single(probs, labels, metric))
        assert metric.loss(metric(labels, blend)) <= metric.loss(metric(labels, single)) + 1e-12


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 6), st.integers(1, 40), st.integers(2, 5), st.booleans())
def test_convex_log_loss_is_in_sample_never_worse_than_any_other_mean(
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
    for name in ("greedy", "convex", "best_single"):
        weights = WAYS[name].fit(probs, labels, LOG_LOSS, None).weights
        np.testing.assert_allclose(weights, [0.0, 1.0], atol=1e-9)
    np.testing.assert_array_equal(equal_weights(probs, labels, LOG_LOSS), [0.5, 0.5])


def test_the_plain_functions_agree_with_the_combination() -> None:
    probs, _, _ = member_probabilities(1, 4, 60, 3, zeros=True)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    grid = fit_rank_grid(probs)
    for kind, expected, parameters in (
        ("mean", weighted_average(probs, weights), {}),
        ("log_mean", log_mean(probs, weights), {}),
        ("vote", hard_vote(probs, weights), {}),
        ("rank_mean", rank_mean(probs, weights, grid), {"grid": grid}),
    ):
        np.testing.assert_array_equal(Combination(kind, weights, parameters)(probs), expected)
