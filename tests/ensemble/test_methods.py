from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble.bagged import bagged_from_true_class, bagged_greedy
from ensemble.class_weights import fit_class_weights
from ensemble.convex import fit_convex
from ensemble.errors import BlendError
from ensemble.greedy import greedy_from_true_class, greedy_weights
from ensemble.methods import (
    AUTO,
    METHODS,
    TRUE_CLASS_METHODS,
    FitRows,
    by_simplicity,
    get_method,
)
from ensemble.metrics import get_metric
from ensemble.rank_mean import fit_rank_grid
from ensemble.single import best_single
from ensemble.stacking import fit_stacking, stacking_shares
from ensemble.swap import swap_from_true_class, swap_weights
from tests.ensemble.made_library import made_library

STEPS = 5
EVERY = pytest.mark.parametrize("name", METHODS)


def rows_of(
    metric: str = "log_loss", *, weighted: bool = True, whole: bool = True, members: int = 4
) -> FitRows:
    library = made_library(rows=70, members=members, weighted=weighted)
    return FitRows(
        labels=library.labels,
        p_true=library.p_true,
        probs=library.probs if whole else None,
        row_weights=library.row_weights,
        metric=get_metric(metric),
        greedy_steps=STEPS,
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_for_log_loss_members_are_weighed_by_their_true_class(weighted: bool) -> None:
    rows = rows_of(weighted=weighted)
    options = {"steps": STEPS, "row_weights": rows.row_weights}
    expected = {
        "best_single": best_single(
            rows.p_true, rows.labels, rows.metric, row_weights=rows.row_weights
        ),
        "equal": np.full(4, 0.25),
        "convex": fit_convex(rows.p_true, row_weights=rows.row_weights)[0],
        "greedy": greedy_from_true_class(rows.p_true, **options),
        "bagged": bagged_from_true_class(rows.p_true, seed=0, **options),
        "swap": swap_from_true_class(rows.p_true, **options),
    }
    assert set(expected) == set(TRUE_CLASS_METHODS)
    for name, weights in expected.items():
        combination = METHODS[name].fit(rows)
        assert combination.kind == "mean"
        np.testing.assert_array_equal(combination.weights, weights)
        short = METHODS[name].fit(replace(rows, probs=None))
        np.testing.assert_array_equal(short.weights, weights)


@pytest.mark.parametrize("metric", ["accuracy", "brier"])
def test_for_other_metrics_they_are_weighed_by_whole_rows(metric: str) -> None:
    rows = rows_of(metric)
    assert rows.probs is not None
    given = rows.probs, rows.labels, rows.metric
    options = {"steps": STEPS, "row_weights": rows.row_weights}
    expected = {
        "best_single": best_single(*given, row_weights=rows.row_weights),
        "greedy": greedy_weights(*given, **options),
        "bagged": bagged_greedy(*given, seed=0, **options),
        "swap": swap_weights(*given, **options),
        "convex": fit_convex(rows.p_true, row_weights=rows.row_weights)[0],
    }
    for name, weights in expected.items():
        np.testing.assert_array_equal(METHODS[name].fit(rows).weights, weights)


def test_the_other_kinds_carry_what_they_learnt() -> None:
    rows = rows_of()
    options = {"row_weights": rows.row_weights}
    grid = METHODS["rank_mean"].fit(rows)
    np.testing.assert_array_equal(grid.parameters["grid"], fit_rank_grid(rows.whole, **options))
    by_class = METHODS["class_mean"].fit(rows)
    matrix = fit_class_weights(rows.whole, rows.labels, **options)
    np.testing.assert_array_equal(by_class.parameters["class_weights"], matrix)
    np.testing.assert_allclose(by_class.weights, matrix.mean(axis=1), atol=1e-9)
    stacked = METHODS["stacking"].fit(rows)
    coef, intercept = fit_stacking(rows.whole, rows.labels, **options)
    np.testing.assert_array_equal(stacked.parameters["coef"], coef)
    np.testing.assert_array_equal(stacked.parameters["intercept"], intercept)
    np.testing.assert_array_equal(stacked.weights, stacking_shares(coef))
    for name, kind in (("log_mean", "log_mean"), ("vote", "vote"), ("rank_mean", "rank_mean")):
        assert METHODS[name].fit(rows).kind == kind
        np.testing.assert_array_equal(METHODS[name].fit(rows).weights, np.full(4, 0.25))


def test_a_pull_to_equal_weights_is_passed_on() -> None:
    rows = rows_of()
    pulled = METHODS["convex"].fit(replace(rows, l2=0.5)).weights
    np.testing.assert_array_equal(
        pulled, fit_convex(rows.p_true, l2=0.5, row_weights=rows.row_weights)[0]
    )
    assert np.ptp(pulled) < np.ptp(METHODS["convex"].fit(rows).weights)


@EVERY
@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "brier"])
def test_a_method_says_truly_whether_it_reads_whole_rows(name: str, metric: str) -> None:
    method, rows = METHODS[name], rows_of(metric)
    short = replace(rows, probs=None)
    if method.needs_rows(rows.metric):
        with pytest.raises(BlendError, match="needs the probabilities of all classes") as caught:
            method.fit(short)
        assert "\n" not in str(caught.value)
    else:
        assert method.fit(short) == method.fit(rows)


@EVERY
@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "brier"])
def test_one_member_has_all_the_weight(name: str, metric: str) -> None:
    combination = METHODS[name].fit(rows_of(metric, members=1))
    assert combination.weights.tolist() == [1.0]


@EVERY
def test_rows_of_weight_zero_teach_nothing(name: str) -> None:
    rows = rows_of(weighted=False)
    kept = np.arange(70) % 4 != 0
    weights = kept.astype(np.float64)
    assert rows.probs is not None
    fewer = replace(
        rows,
        labels=rows.labels[kept],
        p_true=np.ascontiguousarray(rows.p_true[:, kept]),
        probs=np.ascontiguousarray(rows.probs[:, kept]),
    )
    if name == "bagged":  # draws rows: other ones of fewer
        return
    a, b = METHODS[name].fit(rows.weighted(weights)), METHODS[name].fit(fewer)
    np.testing.assert_allclose(a.weights, b.weights, atol=1e-5)


def test_combinations_of_the_true_class_alone_are_means() -> None:
    rows = rows_of()
    for name in METHODS:
        can = METHODS[name].fit(rows).kind == "mean"
        assert can == (name in TRUE_CLASS_METHODS)


def test_methods_are_listed_from_simple_to_learned() -> None:
    assert by_simplicity(("auto",)) == AUTO
    assert by_simplicity(("greedy", "equal", "greedy")) == ("equal", "greedy")
    assert by_simplicity(("stacking", "auto")) == (*AUTO, "stacking")
    assert by_simplicity(("best_single", "vote")) == ("best_single", "vote")
    assert get_method("convex") is METHODS["convex"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "got no blend method"),
        (("equal", "gredy"), "unknown blend method 'gredy'.*did you mean greedy"),
        (("zzz",), "unknown blend method 'zzz'"),
    ],
)
def test_unknown_names_are_refused_in_a_line(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        by_simplicity(names)
    assert "\n" not in str(caught.value)


def test_beyond_the_bound_a_library_without_a_member_lies_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = rows_of()
    assert rows.probs is not None
    expected = np.delete(np.asarray(rows.probs), 1, axis=0)
    small, large = replace(rows, memory_bytes=100).without(1).whole, rows.without(1).whole
    assert isinstance(small, np.memmap)
    assert not isinstance(large, np.memmap)
    np.testing.assert_array_equal(small, expected)
    np.testing.assert_array_equal(large, expected)
