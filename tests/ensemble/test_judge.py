from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensemble.bootstrap import bootstrap_interval, paired_difference
from ensemble.errors import BlendError
from ensemble.judge import SLOW_RESAMPLES, Judge
from ensemble.library import Library
from ensemble.metrics import LOG_LOSS, Metric, get_metric
from ensemble.outcome import Outcome
from tests.ensemble.made_library import made_library


def judge_of(library: Library, metric: str = "log_loss", **options: object) -> Judge:
    values = {"probe_fold": 0, "resamples": 50, "confidence": 0.9, "seed": 3} | options
    return Judge(library, get_metric(metric), **values)  # type: ignore[arg-type]


def two_outcomes(library: Library) -> tuple[Outcome, Outcome]:
    assert library.probs is not None
    a, b = (Outcome.of(library.labels, proba, True) for proba in library.probs[:2])
    return a, b


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "macro_f1", "brier"])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_and_intervals_are_those_of_the_bootstrap(metric: str, weighted: bool) -> None:
    library = made_library(rows=90, weighted=weighted, grouped=weighted)
    assert library.probs is not None
    a, b = two_outcomes(library)
    judge = judge_of(library, metric)
    scores = judge.nested_scores(a, b, "c1")
    every, outside = np.ones(90, dtype=bool), library.folds != 0
    options = {"resamples": 50, "confidence": 0.9, "seed": 3}
    for rows, of in ((every, lambda s: s), (outside, lambda s: s.without_probe_fold)):
        labels = library.labels[rows]
        weights = None if library.row_weights is None else library.row_weights[rows]
        units = None if library.groups is None else library.groups[rows]
        more = {"groups": units, "row_weights": weights}
        for score, proba in (
            (scores.blend, library.probs[0]),
            (scores.best_single, library.probs[1]),
        ):
            got = of(score)
            assert got.value == pytest.approx(judge.metric(labels, proba[rows], weights))
            interval = bootstrap_interval(labels, proba[rows], judge.metric, **options, **more)
            assert (got.low, got.high) == pytest.approx((interval.low, interval.high))
        got = of(scores.difference)
        pair = library.probs[0][rows], library.probs[1][rows]
        expected = paired_difference(labels, *pair, judge.metric, **options, **more)
        assert (got.value, got.low, got.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )
    assert scores.best_single.config_id == "c1"
    assert judge.value(a) == scores.blend.value
    assert judge.value_without_probe_fold(a) == scores.blend.without_probe_fold.value


def test_another_metric_may_be_asked_for() -> None:
    library = made_library(rows=90, weighted=True)
    assert library.probs is not None
    a, _ = two_outcomes(library)
    expected = LOG_LOSS(library.labels, library.probs[0], library.row_weights)
    assert judge_of(library, "accuracy").value(a, LOG_LOSS) == pytest.approx(expected)


def test_without_resamples_there_are_no_intervals() -> None:
    library = made_library()
    scores = judge_of(library, resamples=0).nested_scores(*two_outcomes(library), "c1")
    for score in (scores.blend, scores.best_single, scores.difference):
        assert (score.low, score.high) == (None, None)
        assert score.without_probe_fold.low is None


def test_groups_widen_the_interval() -> None:
    # Each row four times, in one group: a quarter of the evidence, twice the interval.
    once = made_library(rows=200)
    rows = np.repeat(np.arange(200), 4)
    assert once.probs is not None
    ids = np.array([f"{name} {i}" for i, name in enumerate(once.ids[rows])], dtype=object)
    alone = Library(
        once.names, once.classes, ids, once.labels[rows], once.folds[rows],
        once.p_true[:, rows], once.probs[:, rows],
    )  # fmt: skip
    grouped = replace(alone, groups=rows.astype(str).astype(object))
    widths = []
    for library in (alone, grouped):
        score = judge_of(library, resamples=1000).nested_scores(*two_outcomes(library), "c").blend
        assert score.low is not None
        assert score.high is not None
        widths.append(score.high - score.low)
    assert widths[1] / widths[0] == pytest.approx(2.0, rel=0.1)


def test_metrics_that_sort_all_probabilities_again_take_fewer_resamples() -> None:
    library = made_library()
    for metric, expected in (("auc", SLOW_RESAMPLES), ("brier", 5000), ("macro_f1", 5000)):
        assert judge_of(library, metric, resamples=5000)._resamples == expected
    assert judge_of(library, "auc", resamples=7)._resamples == 7
    for metric in ("sklearn:f1_macro", "sklearn:accuracy"):  # not a loop of our own
        assert judge_of(library, metric, resamples=5000)._resamples == SLOW_RESAMPLES


def test_a_metric_that_a_resample_cannot_have_is_refused_in_a_line() -> None:
    def first_row_only(
        labels: np.ndarray, proba: np.ndarray, row_weights: np.ndarray | None = None
    ) -> float:
        return 1.0 if row_weights is None or row_weights[0] else float("nan")

    picky = Metric("picky", higher_is_better=True, bounds=(0.0, 1.0), function=first_row_only)
    library = made_library()
    judge = replace(judge_of(library), metric=picky)
    with pytest.raises(BlendError, match=r"picky: not defined on every resample.*bootstrap to 0"):
        judge.nested_scores(*two_outcomes(library), "c0")


def test_so_is_one_that_scikit_learn_refuses_to_score_on_a_resample() -> None:
    library = with_a_rare_class()
    judge = judge_of(library, "sklearn:roc_auc_ovr", resamples=100)
    with pytest.raises(
        BlendError, match=r"^sklearn:roc_auc_ovr: not defined on every resample.*bootstrap to 0"
    ):
        judge.nested_scores(*two_outcomes(library), "c0")


def with_a_rare_class() -> Library:
    """One row of the last class, which every third resample lacks."""
    library = made_library(rows=60)
    labels = np.arange(60) % 2
    labels[7] = 2
    return replace(library, labels=labels.astype(np.int32))
