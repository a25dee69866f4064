"""A canary: whatever labels the rows of a fold have, what is predicted for them stays the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensemble.blend import BlendSettings, fit_library
from ensemble.fitting import Fitter
from ensemble.library import Library
from ensemble.methods import METHODS
from ensemble.nested import Nested, nested
from ensemble.rules import Rules
from tests.ensemble.made_library import (
    fitter_of,
    made_library,
    overrides,
    relabelled,
    with_fold_permuted,
)

EVERY_METHOD = tuple(METHODS)
QUICK = ("best_single", "equal", "log_mean", "convex", "greedy")
FOLDS = pytest.mark.parametrize("folds", [2, 3, 5])
METRICS = pytest.mark.parametrize("metric", ["log_loss", "accuracy", "brier"])


def everything_predicted(fitter: Fitter, fold: int, honest: Nested) -> list[np.ndarray]:
    """All that is said of the rows of `fold`, and all that was learnt for it, but for what is
    compared with their own labels."""
    rows = np.flatnonzero(fitter.library.folds == fold)
    out = frozenset({fold})
    whole = fitter.predict(out, rows, fitter.ways, fitter.ways)
    found = [fitter.fits(out).temperatures]
    for stages in whole.values():
        for outcome in stages.values():
            assert outcome.proba is not None
            found += [outcome.proba, outcome.decided]
    for way in fitter.fits(out).ways.values():
        found += [way.combination.weights, *way.combination.parameters.values()]
        found += [np.array(sorted(way.calibration.to_dict().items()), dtype=object)]
    for classes, weights in fitter.fits(out).groups or ():
        found += [np.array(classes), weights]
    return found + of_nested(honest, rows, fold)


def of_nested(honest: Nested, rows: np.ndarray, fold: int) -> list[np.ndarray]:
    found = [np.array([honest.chosen[fold]])]
    for outcome in (*honest.stages.values(), honest.single):
        assert outcome.proba is not None
        found += [outcome.proba[rows], outcome.decided[rows]]
    return found + [outcome.decided[rows] for outcome in honest.methods.values()]


def sings(
    library: Library, rules: Rules | None, *methods: str, metric: str, **options: object
) -> bool:
    """Whether the labels of the first or the last fold change what is predicted for it."""
    before = fitter_of(library, *methods, metric=metric, **options)
    honest = nested(before, rules)
    for fold in (library.fold_names[0], library.fold_names[-1]):
        other = with_fold_permuted(library, fold, seed=fold)
        after = fitter_of(other, *methods, metric=metric, **options)
        pairs = zip(
            everything_predicted(before, fold, honest),
            everything_predicted(after, fold, nested(after, rules)),
            strict=True,
        )
        if not all(np.array_equal(a, b) for a, b in pairs):
            return True
    return False


@METRICS
@FOLDS
def test_labels_of_a_fold_never_reach_its_predictions(metric: str, folds: int) -> None:
    library = made_library(1, rows=64, folds=folds)
    options = {"groups": "auto", "calibrate_blend": "temperature", "greedy_steps": 4}
    rules = overrides(library, right=0.8)
    assert not sings(library, rules, *QUICK, metric=metric, **options)


@METRICS
@FOLDS
def test_nor_with_row_weights_groups_and_vector_scaling(metric: str, folds: int) -> None:
    library = made_library(2, rows=64, folds=folds, weighted=True, grouped=True)
    options = {"groups": ((0, 2),), "calibrate_blend": "vector", "greedy_steps": 4}
    rules = overrides(library, right=0.5)
    assert not sings(library, rules, "log_mean", "convex", metric=metric, **options)


def test_nor_where_many_folds_are_merged_for_the_choice() -> None:
    library = made_library(1, rows=96, folds=12)  # the first fold shares its part, the last not
    rules = overrides(library, right=0.8)
    assert not sings(library, rules, "equal", "convex", metric="log_loss")


@METRICS
def test_nor_with_any_method(metric: str) -> None:
    library = made_library(3, rows=48, weighted=True)
    options = {"groups": "auto", "calibrate_blend": "none", "greedy_steps": 3}
    assert not sings(library, None, *EVERY_METHOD, metric=metric, **options)


def test_a_leak_would_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    library = made_library(1, rows=64)
    settings = {"metric": "log_loss", "greedy_steps": 4}
    assert not sings(library, None, *QUICK, **settings)  # type: ignore[arg-type]
    everything = lambda self, folds: np.arange(self.library.n_rows)  # noqa: E731
    monkeypatch.setattr(Fitter, "rows_outside", everything)
    assert sings(library, None, *QUICK, **settings)  # type: ignore[arg-type]


def test_a_choice_that_saw_the_fold_itself_would_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    # Members of luck alone: in-sample, weights fitted to the luck look best; out of it, equal ones.
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), size=(20, 90)).astype(np.float32)
    library = made_library(0, members=20, rows=90)
    library = relabelled(replace(library, probs=probs), library.labels)
    plain = {"calibrate": False, "calibrate_blend": "none"}

    def chosen() -> set[str]:
        return set(nested(fitter_of(library, "equal", "convex", **plain)).chosen.values())

    assert chosen() == {"equal"}
    on_own_rows = lambda run, fold: run._predicted(frozenset(), np.arange(90))  # noqa: E731
    monkeypatch.setattr("ensemble.nested._Run._inner", on_own_rows)
    assert chosen() == {"convex"}


def test_trust_in_the_rules_never_comes_from_the_rows_that_it_judges() -> None:
    # Rules are right outside the fold and wrong inside: blind trust there, and the price is paid.
    library = made_library(5, rows=120)
    rules = overrides(library, right=1.0, share=1.0)
    for fold in library.fold_names:
        wrong = with_fold_permuted(library, fold)
        honest = nested(fitter_of(wrong, "equal"), rules)
        rows = wrong.folds == fold
        aims = rules.targets.argmax(axis=1)
        proba = honest.stages["rules"].proba
        assert proba is not None
        np.testing.assert_array_equal(proba[rows].argmax(axis=1), aims[rows])
        assert proba[rows].max(axis=1).min() > 0.99


def test_the_blend_that_is_returned_has_the_honest_numbers() -> None:
    # From end to end: the score of a fold whose labels are luck is what luck scores.
    library = made_library(6, rows=150, members=4)
    fitted = fit_library(library, BlendSettings(bootstrap=0, refits=0, explain=False))
    for fold in library.fold_names:
        other = with_fold_permuted(library, fold)
        again = fit_library(other, BlendSettings(bootstrap=0, refits=0, explain=False))
        rows = library.folds == fold
        assert fitted.nested.proba is not None
        assert again.nested.proba is not None
        np.testing.assert_array_equal(again.nested.proba[rows], fitted.nested.proba[rows])
        assert again.blend.score.value > fitted.blend.score.value
