from __future__ import annotations

import math
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    adjusted_rand_score,
    cohen_kappa_score,
    get_scorer_names,
    log_loss,
    matthews_corrcoef,
    mean_absolute_error,
    precision_score,
    roc_auc_score,
)

from ensemble.metrics import Metric, get_metric
from ensemble.sklearn_metrics import DecisionScorer, ProbabilityScorer, scorer_bounds, scorer_of
from tests.ensemble.made import member_probabilities


def rows_of_all_classes(
    seed: int = 0, rows: int = 60, classes: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    probs, labels, _ = member_probabilities(seed, 1, rows, classes)
    labels[:classes] = np.arange(classes)
    return labels, probs[0], np.random.default_rng(seed).random(rows) + 0.1


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(12, 60), st.booleans())
def test_scorers_give_what_scikit_learn_gives(seed: int, rows: int, weighted: bool) -> None:
    labels, proba, weights = rows_of_all_classes(seed, rows)
    chosen = weights if weighted else None
    decided = proba.argmax(axis=1)
    expected = {
        "neg_log_loss": -log_loss(labels, proba, sample_weight=chosen),
        "matthews_corrcoef": matthews_corrcoef(labels, decided, sample_weight=chosen),
        "precision_weighted": precision_score(
            labels, decided, average="weighted", zero_division=0, sample_weight=chosen
        ),
        "roc_auc_ovr_weighted": roc_auc_score(
            labels, proba, multi_class="ovr", average="weighted", sample_weight=chosen
        ),
        "neg_mean_absolute_error": -mean_absolute_error(labels, decided, sample_weight=chosen),
    }
    for name, value in expected.items():
        metric = get_metric(f"sklearn:{name}")
        assert metric(labels, proba, chosen) == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize("name", get_scorer_names())
@pytest.mark.parametrize("classes", [2, 4])
def test_every_scorer_works_or_says_in_one_line_why_not(name: str, classes: int) -> None:
    labels, proba, weights = rows_of_all_classes(classes=classes)
    metric = get_metric(f"sklearn:{name}")
    assert metric.higher_is_better
    assert pickle.loads(pickle.dumps(metric)) == metric
    for chosen in (None, weights, np.arange(60) % 3):
        value, refusal = score_or_refusal(metric, labels, proba, chosen)
        if refusal:
            assert f"sklearn:{name}" in refusal
            assert "\n" not in refusal
            continue
        assert metric.bounds[0] <= value <= metric.bounds[1]
        if metric.from_decisions:
            short = metric.from_decisions(labels, proba.argmax(axis=1), classes, chosen)
            assert short == value


def score_or_refusal(
    metric: Metric, labels: np.ndarray, proba: np.ndarray, weights: np.ndarray | None
) -> tuple[float, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return metric(labels, proba, weights), ""
        except ValueError as error:
            return math.nan, str(error)


def test_a_scorer_is_asked_what_it_needs() -> None:
    assert scorer_of("f1_weighted") == DecisionScorer("f1_weighted")
    assert scorer_of("roc_auc") == ProbabilityScorer("roc_auc")
    assert get_metric("sklearn:f1_weighted").needs == "decisions"
    assert get_metric("sklearn:neg_log_loss").needs == "probabilities"


@pytest.mark.parametrize(
    "name", ["f1_macro", "matthews_corrcoef", "neg_log_loss", "roc_auc_ovr", "adjusted_rand_score"]
)
def test_whole_weights_mean_repeated_rows_and_zero_none(name: str) -> None:
    labels, proba, _ = rows_of_all_classes()
    times = np.random.default_rng(1).integers(3, size=len(labels))
    times[:4] = 1
    metric = get_metric(f"sklearn:{name}")
    repeated = metric(labels.repeat(times), proba.repeat(times, axis=0))
    # scikit-learn sums float32 probabilities in float32.
    assert metric(labels, proba, times.astype(np.float64)) == pytest.approx(repeated, rel=1e-6)


def test_a_scorer_without_sample_weight_takes_whole_numbers_only() -> None:
    labels, proba, weights = rows_of_all_classes()
    metric = get_metric("sklearn:adjusted_rand_score")
    assert metric(labels, proba) == adjusted_rand_score(labels, proba.argmax(axis=1))
    with pytest.raises(ValueError, match="no row weights other than whole numbers"):
        metric(labels, proba, weights)


def test_a_missing_class_does_not_stop_a_log_loss() -> None:
    labels, proba, weights = rows_of_all_classes()
    labels[labels == 3] = 0
    metric = get_metric("sklearn:neg_log_loss")
    for chosen in (None, weights):
        expected = -log_loss(labels, proba, labels=np.arange(4), sample_weight=chosen)
        assert metric(labels, proba, chosen) == pytest.approx(expected, rel=1e-6)


def test_what_scikit_learn_refuses_is_one_line() -> None:
    labels, proba, _ = rows_of_all_classes()
    with pytest.raises(ValueError, match=r"sklearn:f1 cannot score these 4 classes: .*multiclass"):
        get_metric("sklearn:f1")(labels, proba)
    missing = np.where(labels == 3, 0, labels)
    for name in ("roc_auc_ovr", "average_precision"):
        with pytest.raises(ValueError, match=f"sklearn:{name} cannot score these 4") as caught:
            get_metric(f"sklearn:{name}")(missing, proba)
        assert "the labels have 3 of them" in str(caught.value)


def test_unknown_scorers_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean sklearn:f1_weighted"):
        get_metric("sklearn:f1_wieghted")
    with pytest.raises(ValueError, match="unknown metric 'sklearn:'"):
        get_metric("sklearn:")


def test_bounds_are_those_known() -> None:
    assert scorer_bounds("neg_log_loss") == (-np.inf, 0.0)
    assert scorer_bounds("f1_weighted") == (0.0, 1.0)
    assert scorer_bounds("matthews_corrcoef") == (-1.0, 1.0)
    assert scorer_bounds("a scorer of later") == (-np.inf, np.inf)


def test_our_kappa_is_theirs_where_all_classes_have_a_place() -> None:
    labels, proba, weights = rows_of_all_classes(classes=6)
    expected = cohen_kappa_score(
        labels, proba.argmax(axis=1), weights="quadratic", sample_weight=weights
    )
    assert get_metric("quadratic_kappa")(labels, proba, weights) == pytest.approx(expected)
