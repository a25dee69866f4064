from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensemble.explain import contributions, only_right
from ensemble.fitting import NO_FOLDS, Fitter
from ensemble.library import Library
from ensemble.nested import nested
from tests.ensemble.made_library import fitter_of, made_library, relabelled, true_class_only


def smaller(library: Library, member: int) -> Library:
    kept = np.arange(len(library.names)) != member
    probs = None if library.probs is None else np.ascontiguousarray(library.probs[kept])
    names = tuple(np.array(library.names)[kept])
    return replace(library, names=names, probs=probs, p_true=library.p_true[kept])


def weights_of(fitter: Fitter, method: str) -> np.ndarray:
    return fitter.fits(NO_FOLDS).ways[method].combination.weights


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "brier"])
@pytest.mark.parametrize("method", ["equal", "convex", "stacking"])
def test_without_a_member_is_the_nested_score_of_a_library_without_it(
    metric: str, method: str
) -> None:
    library = made_library(rows=90, members=4, weighted=True)
    options = {"metric": metric, "groups": ((0, 1),)}
    fitter = fitter_of(library, method, "log_mean", **options)  # type: ignore[arg-type]
    weights = weights_of(fitter, method)
    added = contributions(fitter, method, weights)
    for member, weight in enumerate(weights):
        if weight == 0:
            assert added[member].without is None
            continue
        alone = fitter_of(smaller(library, member), method, **options)  # type: ignore[arg-type]
        score = nested(alone).blend.score(
            fitter.settings.metric, library.labels, library.row_weights
        )
        assert added[member].without == pytest.approx(score, abs=1e-9)


def test_the_true_class_alone_is_enough_for_log_loss() -> None:
    library = made_library(rows=90, members=4)
    plain = {"calibrate": False, "calibrate_blend": "none"}
    whole, short = (
        fitter_of(each, "convex", **plain) for each in (library, true_class_only(library))
    )
    a, b = (contributions(one, "convex", weights_of(one, "convex")) for one in (whole, short))
    for with_all, with_true in zip(a, b, strict=True):
        assert with_true.only_right is None
        assert with_all.only_right is not None
        assert with_all.without == pytest.approx(with_true.without, abs=1e-6)


def test_a_member_that_cannot_be_missed_is_worth_most() -> None:
    library = made_library(rows=300, members=4)
    assert library.probs is not None
    probs = library.probs.copy()
    probs[2] = 0.8 * np.eye(3, dtype=np.float32)[library.labels] + 0.2 / 3
    fitter = fitter_of(relabelled(replace(library, probs=probs), library.labels), "equal")
    added = contributions(fitter, "equal", np.full(4, 0.25))
    without = [one.without for one in added]
    assert max(without) == without[2]  # type: ignore[type-var]


def test_only_right_counts_the_rows_that_no_other_member_decides_rightly() -> None:
    labels = np.array([0, 1, 0, 1], dtype=np.int32)
    says = np.array([[0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1]])  # of three members
    probs = np.where(np.eye(2)[says] > 0, 0.9, 0.1).astype(np.float32)
    library = made_library(rows=4, members=3, classes=2, folds=2)
    library = relabelled(replace(library, probs=probs), labels)
    # Row 0: members 0 and 1. Row 1: member 0 alone. Row 2: nobody. Row 3: members 1 and 2.
    np.testing.assert_array_equal(only_right(library), [0.25, 0.0, 0.0])
    weighted = replace(library, row_weights=np.array([1.0, 5.0, 2.0, 2.0]))
    np.testing.assert_array_equal(only_right(weighted), [0.5, 0.0, 0.0])
    assert only_right(true_class_only(library)) is None


def test_one_member_cannot_be_left_out() -> None:
    fitter = fitter_of(made_library(members=1), "equal")
    (only,) = contributions(fitter, "equal", np.ones(1))
    assert only.without is None
    assert only.only_right is not None
