from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensemble.bootstrap import resample_counts
from ensemble.convex import fit_convex
from ensemble.errors import BlendError
from ensemble.fitting import NO_FOLDS
from ensemble.methods import METHODS
from ensemble.stability import stability_of, weight_stability
from tests.ensemble.made_library import fitter_of, made_library, relabelled


def test_percentiles_by_hand() -> None:
    found = stability_of([0.0, 0.2, 0.4, 0.6, 0.8])  # the 5th: a fifth of the way from 0 to 0.2
    assert (found.mean, found.low, found.high) == pytest.approx((0.4, 0.04, 0.76))
    assert (found.used, found.refits) == (0.8, 5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_weights_are_refitted_on_resampled_rows_or_groups(weighted: bool, grouped: bool) -> None:
    library = made_library(rows=80, weighted=weighted, grouped=grouped)
    fitter = fitter_of(library, "convex")
    found = weight_stability(fitter, "convex", refits=6, seed=4)
    given = np.ones(80) if library.row_weights is None else library.row_weights
    p_true = fitter.fit_rows(NO_FOLDS).p_true
    weights = np.stack(
        [
            fit_convex(p_true, row_weights=counts * given)[0]
            for counts in resample_counts(library.labels, library.groups, 6, 4)
        ]
    )
    assert found == [stability_of(column) for column in weights.T]


def test_groups_are_drawn_whole() -> None:
    library = made_library(rows=80, grouped=True)
    assert library.groups is not None
    for counts in resample_counts(library.labels, library.groups, 5, 0):
        for name in {name for name in library.groups if name is not None}:
            assert len(set(counts[library.groups == name])) == 1
    alone, grouped = (
        weight_stability(fitter_of(each, "convex"), "convex", refits=10, seed=0)
        for each in (replace(library, groups=None), library)
    )
    assert alone != grouped


@pytest.mark.parametrize("method", ["equal", "log_mean", "vote"])
def test_a_method_that_learns_nothing_has_no_spread_to_show(method: str) -> None:
    fitter = fitter_of(made_library(), method)
    assert weight_stability(fitter, method, refits=5, seed=0) == [None] * 3


def test_neither_has_a_single_member_nor_a_fit_that_is_not_repeated() -> None:
    assert weight_stability(fitter_of(made_library(), "convex"), "convex", refits=0, seed=0) == (
        [None] * 3
    )
    alone = fitter_of(made_library(members=1), "convex")
    assert weight_stability(alone, "convex", refits=5, seed=0) == [None]


@pytest.mark.parametrize("method", ["class_mean", "stacking"])
def test_slow_methods_show_the_fits_without_one_fold(method: str) -> None:
    fitter = fitter_of(made_library(folds=4), method)
    found = weight_stability(fitter, method, refits=20, seed=0)
    outs = [frozenset({fold}) for fold in range(4)]
    weights = np.stack([fitter.fits(out).ways[method].combination.weights for out in outs])
    assert found == [stability_of(column) for column in weights.T]
    assert {each.refits for each in found if each} == {4}


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.learns_weights])
def test_every_refit_is_counted_and_shares_sum_to_one(method: str) -> None:
    fitter = fitter_of(made_library(rows=60), method, greedy_steps=4)
    found = weight_stability(fitter, method, refits=5, seed=0)
    assert all(each is not None and each.refits == 5 for each in found)
    assert sum(each.mean for each in found if each) == pytest.approx(1.0)
    assert all(each.low <= each.mean <= each.high or each.used < 1 for each in found if each)


def test_a_metric_that_a_resample_cannot_have_says_to_leave_the_refits_out() -> None:
    library = made_library(rows=60)
    labels = np.arange(60) % 2
    labels[7] = 2  # every third resample lacks it
    rare = relabelled(library, labels)
    fitter = fitter_of(rare, "greedy", metric="sklearn:roc_auc_ovr", greedy_steps=2)
    with pytest.raises(
        BlendError, match=r"^sklearn:roc_auc_ovr: not defined on every resample.*refits to 0"
    ):
        weight_stability(fitter, "greedy", refits=40, seed=0)
