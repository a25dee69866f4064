from __future__ import annotations

import numpy as np
import pytest

from ensemble.choice import choose
from ensemble.convex import convex_certificate
from ensemble.final import Final, fit_final
from ensemble.fitting import NO_FOLDS, Fitter
from ensemble.methods import METHODS
from ensemble.nested import nested
from ensemble.rules import Rules, fit_trust
from tests.ensemble.made_library import fitter_of, made_library, overrides

QUICK = ("equal", "convex", "greedy")


def final_of(fitter: Fitter, rules: Rules | None = None) -> Final:
    return fit_final(fitter, nested(fitter, rules), rules, seed=0)


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "brier"])
def test_the_final_fit_is_on_all_rows_and_its_method_by_the_nested_scores(metric: str) -> None:
    library = made_library(rows=90, weighted=True, grouped=True)
    fitter = fitter_of(library, *QUICK, metric=metric, greedy_steps=5)
    honest = nested(fitter)
    final = fit_final(fitter, honest, None, seed=0)
    expected = choose(
        library.labels,
        honest.methods,
        fitter.settings.metric,
        single=honest.single,
        groups=library.groups,
        row_weights=library.row_weights,
    )
    assert final.choice == expected
    assert final.fits is fitter.fits(NO_FOLDS)
    learnt = METHODS[final.choice.method].fit(fitter.fit_rows(NO_FOLDS))
    np.testing.assert_array_equal(final.weights, learnt.weights)
    assert final.rules is None
    every = np.arange(library.n_rows)
    for name, outcome in final.in_sample.items():
        stages = fitter.predict(NO_FOLDS, every, (name,))[name]
        np.testing.assert_array_equal(outcome.p_true, stages["calibration"].p_true)


def test_a_choice_of_the_simplest_within_one_standard_error() -> None:
    taken = []
    names = ("equal", "log_mean", "convex")
    for seed in range(8):
        choice = final_of(fitter_of(made_library(seed, rows=60), *names)).choice
        within = [
            name
            for name in names
            if choice.behind[name] <= choice.standard_error[name] and name not in choice.no_gain
        ]
        assert choice.method == within[0]
        assert choice.behind[choice.best] == 0.0
        taken.append((choice.method, choice.best))
    assert any(method != best for method, best in taken)


def test_only_convex_weights_have_a_certificate() -> None:
    library = made_library(rows=90, weighted=True)
    for name in METHODS:
        final = final_of(fitter_of(library, name, greedy_steps=3))
        assert (final.certificate is not None) == (name == "convex")
        if final.certificate is not None:
            assert -1e-12 <= final.certificate <= 1e-6


def test_the_certificate_is_that_of_the_weights_that_are_kept() -> None:
    fitter = fitter_of(made_library(rows=90), "convex", l2=0.1)
    final = final_of(fitter)
    p_true = fitter.fit_rows(NO_FOLDS).p_true
    assert final.certificate == convex_certificate(p_true, final.weights, l2=0.1)


def test_trust_is_fitted_on_nested_predictions_of_the_rows_with_a_rule() -> None:
    library = made_library(rows=120, weighted=True)
    fitter, rules = fitter_of(library, "equal", "convex"), overrides(library, right=0.7)
    honest = nested(fitter, rules)
    final = fit_final(fitter, honest, rules, seed=0)
    touched = np.flatnonzero(rules.touched(library.ids))
    before = honest.before_rules.proba
    assert before is not None
    assert library.row_weights is not None
    assert final.rules is not None
    assert (final.rules.source, final.rules.rows) == ("made.csv", len(touched))
    assert final.rules.trust == fit_trust(
        rules,
        library.ids[touched],
        library.labels[touched],
        before[touched],
        fitter.settings.metric,
        library.row_weights[touched],
    )


@pytest.mark.parametrize(("right", "low", "high"), [(1.0, 0.9, 1.0), (0.0, 0.0, 0.0)])
def test_right_rules_are_trusted_and_wrong_ones_are_not(
    right: float, low: float, high: float
) -> None:
    library = made_library(rows=120)
    final = final_of(fitter_of(library, "equal"), overrides(library, right))
    assert final.rules is not None
    assert low <= final.rules.trust <= high


def test_rules_of_no_labelled_row_earn_no_trust() -> None:
    library = made_library()
    made = overrides(library, 1.0)
    ids = np.array([f"test {name}" for name in made.ids], dtype=object)
    for fixed, trust in ((False, 0.0), (True, 1.0)):
        rules = Rules("x", ids, made.targets, made.within, made.strength, fixed)
        final = final_of(fitter_of(library, "equal"), rules)
        assert final.rules is not None
        assert (final.rules.rows, final.rules.trust) == (0, trust)


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "brier"])
def test_in_sample_the_blend_has_its_rules_and_the_methods_have_not(metric: str) -> None:
    library = made_library(3, rows=120, weighted=True)
    fitter = fitter_of(library, "equal", "convex", metric=metric)
    rules = overrides(library, right=0.9)
    plain, ruled = final_of(fitter), final_of(fitter, rules)
    assert plain.blend_in_sample is plain.in_sample[plain.choice.method]
    assert ruled.rules is not None
    assert ruled.rules.trust > 0
    every = np.arange(library.n_rows)
    method = ruled.choice.method
    stages = fitter.predict(NO_FOLDS, every, (method,), (method,))[method]
    before = stages["calibration"].proba
    assert before is not None
    after = rules.apply(library.ids, before, ruled.rules.trust)
    expected = fitter.settings.metric(library.labels, after, library.row_weights)
    score = ruled.blend_in_sample.score(fitter.settings.metric, library.labels, library.row_weights)
    assert score == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(ruled.in_sample[method].p_true, stages["calibration"].p_true)


def test_rules_that_touch_no_labelled_row_change_nothing_in_sample() -> None:
    library = made_library(3, rows=60)
    made = overrides(library, right=1.0)
    elsewhere = np.array([f"other {name}" for name in made.ids], dtype=object)
    rules = Rules("x", elsewhere, made.targets, made.within, made.strength, fixed=False)
    final = final_of(fitter_of(library, "equal"), rules)
    assert final.blend_in_sample is final.in_sample["equal"]
