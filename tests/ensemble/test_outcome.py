from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ensemble.errors import BlendError
from ensemble.metrics import ACCURACY, AUC, BRIER, LOG_LOSS, MACRO_F1, Metric, get_metric
from ensemble.outcome import Outcome
from tests.ensemble.made import member_probabilities

PROBS, LABELS, _ = member_probabilities(0, 1, 80, 5)
PROBA = PROBS[0]
WEIGHTS = np.random.default_rng(0).random(80)
NAMES = [
    "log_loss",
    "accuracy",
    "macro_f1",
    "balanced_accuracy",
    "top_2_accuracy",
    "quadratic_kappa",
    "auc",
    "brier",
    "ece",
    "sklearn:f1_weighted",
    "sklearn:neg_log_loss",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
def test_an_outcome_scores_as_its_probabilities_do(name: str, weights: np.ndarray | None) -> None:
    metric = get_metric(name)
    outcome = Outcome.of(LABELS, PROBA, keep_proba=metric.needs == "probabilities")
    expected = metric(LABELS, PROBA, weights)
    assert outcome.score(metric, LABELS, weights) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("name", ["log_loss", "accuracy", "top_2_accuracy", "brier"])
def test_row_values_are_what_the_metric_is_the_mean_of(name: str) -> None:
    metric = get_metric(name)
    outcome = Outcome.of(LABELS, PROBA, keep_proba=metric.needs == "probabilities")
    values = outcome.row_values(metric, LABELS)
    assert values is not None
    assert metric.row_values is not None
    np.testing.assert_array_equal(values, metric.row_values(LABELS, PROBA))
    expected = metric(LABELS, PROBA, WEIGHTS)
    assert np.average(values, weights=WEIGHTS) == pytest.approx(expected)


def test_a_metric_that_is_no_mean_has_no_row_values() -> None:
    outcome = Outcome.of(LABELS, PROBA, keep_proba=True)
    for metric in (MACRO_F1, AUC):
        assert outcome.row_values(metric, LABELS) is None


def test_two_numbers_a_row_are_kept_of_c() -> None:
    outcome = Outcome.of(LABELS, PROBA, keep_proba=False)
    assert outcome.proba is None
    assert outcome.n_classes == 5
    np.testing.assert_array_equal(outcome.p_true, PROBA[np.arange(80), LABELS])
    np.testing.assert_array_equal(outcome.decided, PROBA.argmax(axis=1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.n_classes = 6  # type: ignore[misc]


@pytest.mark.parametrize("metric", [BRIER, AUC], ids=lambda metric: metric.name)
def test_a_metric_of_probabilities_that_were_not_kept_is_refused(metric: Metric) -> None:
    outcome = Outcome.of(LABELS, PROBA, keep_proba=False)
    with pytest.raises(BlendError, match=f"{metric.name} needs whole probabilities"):
        outcome.score(metric, LABELS)


def test_a_metric_of_decisions_that_are_not_known_is_refused() -> None:
    outcome = Outcome(np.full(80, 0.5), np.full(80, -1), 5)
    assert outcome.score(LOG_LOSS, LABELS) == pytest.approx(np.log(2))
    with pytest.raises(BlendError, match=r"accuracy needs a decision .* -1 in row 0"):
        outcome.score(ACCURACY, LABELS)


@pytest.mark.parametrize("rows", [np.arange(3, 30, 2), np.arange(80) % 3 == 0, slice(5, 20)])
def test_taking_rows_is_making_it_of_those_rows(rows: np.ndarray | slice) -> None:
    for keep in (True, False):
        taken = Outcome.of(LABELS, PROBA, keep).take(rows)
        made = Outcome.of(LABELS[rows], PROBA[rows], keep)
        np.testing.assert_array_equal(taken.p_true, made.p_true)
        np.testing.assert_array_equal(taken.decided, made.decided)
        assert taken.n_classes == made.n_classes
        if keep:
            np.testing.assert_array_equal(taken.proba, made.proba)
        else:
            assert taken.proba is None


def test_what_does_not_fit_is_refused() -> None:
    outcome = Outcome.of(LABELS, PROBA, keep_proba=False)
    with pytest.raises(ValueError, match=r"labels of shape \(79,\)"):
        outcome.score(LOG_LOSS, LABELS[1:])
    with pytest.raises(ValueError, match="got 80 of 80 rows without"):
        outcome.score(LOG_LOSS, LABELS - 9)
    with pytest.raises(ValueError, match=r"row weights of shape \(80,\)"):
        outcome.score(LOG_LOSS, LABELS, WEIGHTS[1:])
    nan = dataclasses.replace(outcome, p_true=np.full(80, np.nan))
    with pytest.raises(ValueError, match="NaN in row 0"):
        nan.score(LOG_LOSS, LABELS)
    with pytest.raises(ValueError, match="NaN in row 0"):
        Outcome.of(LABELS, np.full_like(PROBA, np.nan), keep_proba=False)
    with pytest.raises(ValueError, match=r"as many decisions, got \(80,\) and \(79,\)"):
        Outcome(outcome.p_true, outcome.decided[1:], 5)
    with pytest.raises(ValueError, match=r"shape \(80, 4\), got \(80, 5\)"):
        Outcome(outcome.p_true, outcome.decided, 4, PROBA)
