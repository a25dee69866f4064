from __future__ import annotations

import numpy as np
import pytest

from ensemble.average import weighted_average
from ensemble.calibration import apply_temperature, fit_temperature
from ensemble.convex import convex_weights
from ensemble.greedy import greedy_weights
from ensemble.methods import METHODS, MethodSettings, fit_methods, predict_many, rank
from ensemble.metrics import ACCURACY, LOG_LOSS, METRICS, Metric
from tests.ensemble.made import member_probabilities

ALL = pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)


@ALL
@pytest.mark.parametrize("calibrate", [True, False])
def test_weights_are_those_of_each_method_on_tempered_members(
    metric: Metric, calibrate: bool
) -> None:
    probs, labels, _ = member_probabilities(0, 4, 150, 3)
    fits = fit_methods(probs, labels, MethodSettings(metric, METHODS, calibrate, 10))
    temperatures = [fit_temperature(p, labels) for p in probs] if calibrate else np.ones(4)
    np.testing.assert_array_equal(fits.temperatures, temperatures)
    tempered = np.stack([apply_temperature(p, t) for p, t in zip(probs, temperatures, strict=True)])
    np.testing.assert_array_equal(fits.weights["equal"], np.full(4, 0.25))
    np.testing.assert_array_equal(
        fits.weights["greedy"], greedy_weights(tempered, labels, metric, steps=10)
    )
    np.testing.assert_allclose(fits.weights["convex"], convex_weights(tempered, labels), atol=1e-9)
    assert fits.gaps["convex"] <= 1e-6
    ranks = [rank(metric, labels, member) for member in tempered]
    assert ranks[fits.single] == min(ranks)
    assert fits.single_weights().tolist() == np.eye(4)[fits.single].tolist()


def test_the_best_single_member_is_judged_after_its_temperature() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=400)
    logits = 2 * np.eye(3)[labels] + rng.normal(size=(400, 3))
    strong = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    weak = 0.6 * strong + 0.4 / 3
    probs = np.stack([apply_temperature(strong, 0.1), weak])
    assert LOG_LOSS(labels, probs[0]) > LOG_LOSS(labels, probs[1])
    for calibrate, best in ((True, 0), (False, 1)):
        fits = fit_methods(probs, labels, MethodSettings(LOG_LOSS, ("equal",), calibrate, 1))
        assert fits.single == best


@pytest.mark.parametrize("calibrate", [True, False])
def test_predicting_many_is_each_weighted_average_of_tempered_members(calibrate: bool) -> None:
    probs, _, _ = member_probabilities(0, 4, 30, 3, zeros=True)
    temperatures = np.array([0.5, 1.0, 2.0, 3.0]) if calibrate else np.ones(4)
    weights = [np.full(4, 0.25), np.array([0.0, 0.75, 0.25, 0.0]), np.eye(4)[3]]
    out = predict_many(probs, temperatures, weights)
    assert out.shape == (30, 3, 3)
    tempered = np.stack([apply_temperature(p, t) for p, t in zip(probs, temperatures, strict=True)])
    for query, each in enumerate(weights):
        np.testing.assert_allclose(out[:, query], weighted_average(tempered, each), atol=1e-12)


def test_rank_breaks_ties_of_accuracy_by_log_loss() -> None:
    labels = np.zeros(4, int)
    timid, sure = np.tile([0.6, 0.4], (4, 1)), np.tile([0.9, 0.1], (4, 1))
    assert rank(ACCURACY, labels, sure) < rank(ACCURACY, labels, timid)


@pytest.mark.parametrize(
    ("methods", "steps", "message"),
    [
        ((), 5, "at least one method"),
        (("equal", "gredy"), 5, "'gredy'.*did you mean greedy"),
        (("equal",), 0, "at least one greedy step"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    methods: tuple[str, ...], steps: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MethodSettings(LOG_LOSS, methods, True, steps)
