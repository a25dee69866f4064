from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from ensemble.average import weighted_average
from ensemble.calibration import apply_temperature, fit_calibration, fit_temperature
from ensemble.choice import choose
from ensemble.combine import Combination
from ensemble.convex import convex_weights
from ensemble.fitting import NO_FOLDS, Fitter
from ensemble.greedy import greedy_weights
from ensemble.library import Library
from ensemble.metrics import LOG_LOSS, Metric, get_metric
from ensemble.nested import MAX_PARTS, _Run, held_out_sets, nested, parts_of
from ensemble.outcome import Outcome
from ensemble.rules import Rules, fit_trust
from ensemble.single import best_single
from tests.ensemble.made_library import fitter_of, made_library, overrides, true_class_only

FIRST = frozenset({0})
METHODS = ("equal", "log_mean", "convex", "greedy")
STEPS = 5


def reference_predictions(
    library: Library, out: Sequence[int], metric: Metric
) -> dict[str, np.ndarray]:
    """By method, the probabilities (N, C) of all rows from what the rows outside `out` teach: slow
    and plain, from the public functions of each step."""
    assert library.probs is not None
    fit = ~np.isin(library.folds, out)
    labels = library.labels[fit]
    weights = None if library.row_weights is None else library.row_weights[fit]
    members = []
    for proba in library.probs:
        temperature = fit_temperature(proba[fit], labels, row_weights=weights)
        members.append(apply_temperature(proba, temperature).astype(np.float32))
    probs = np.stack(members)
    learnt = probs[:, fit]
    equal = np.full(len(probs), 1 / len(probs))
    options = {"row_weights": weights}
    combined = {
        "equal": weighted_average(probs, equal),
        "log_mean": Combination("log_mean", equal)(probs),
        "convex": weighted_average(probs, convex_weights(learnt, labels, **options)),
        "greedy": weighted_average(
            probs, greedy_weights(learnt, labels, metric, steps=STEPS, **options)
        ),
        "best_single": weighted_average(probs, best_single(learnt, labels, metric, **options)),
    }
    for name, proba in combined.items():
        after = fit_calibration("temperature", proba[fit], labels, row_weights=weights)
        combined[name] = after(proba)
    return combined


def reference_nested(
    library: Library, metric: Metric, rules: Rules | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[int, str]]:
    """(N, C) of the blend, of each method alone, and the method chosen for each fold."""
    folds, labels = library.fold_names, library.labels
    blend = np.empty((library.n_rows, library.n_classes))
    alone = {name: np.empty_like(blend) for name in (*METHODS, "best_single")}
    chosen = {}
    for fold in folds:
        rows = library.folds == fold
        of_fold = reference_predictions(library, [fold], metric)
        inner = {name: np.empty_like(blend) for name in alone}
        for other in folds:
            if other != fold:
                of_pair = reference_predictions(library, [fold, other], metric)
                for name in alone:
                    inner[name][library.folds == other] = of_pair[name][library.folds == other]
        weights = None if library.row_weights is None else library.row_weights[~rows]
        judged = {
            name: Outcome.of(labels[~rows], inner[name][~rows], keep_proba=True) for name in alone
        }
        groups = None if library.groups is None else library.groups[~rows]
        single = judged.pop("best_single")
        method = choose(
            labels[~rows], judged, metric, single=single, groups=groups, row_weights=weights
        ).method
        chosen[fold] = method
        blend[rows] = of_fold[method][rows]
        if rules is not None:
            proba = inner[method][~rows].astype(np.float32)
            trust = fit_trust(rules, library.ids[~rows], labels[~rows], proba, metric, weights)
            blend[rows] = rules.apply(library.ids[rows], blend[rows], trust)
        for name, proba in alone.items():
            proba[rows] = of_fold[name][rows]
    return blend, alone, chosen


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "brier"])
@pytest.mark.parametrize("plain", [True, False])
def test_nested_predictions_are_those_of_a_slow_plain_reference(metric: str, plain: bool) -> None:
    library = made_library(7, rows=90, weighted=not plain, grouped=not plain, folds=3 + plain)
    fitter = fitter_of(library, *METHODS, metric=metric, greedy_steps=STEPS)
    # A trust may tip between two of its 21 steps where the rules help and harm alike.
    rules = None if plain else overrides(library, right=1.0)
    honest = nested(fitter, rules)
    blend, alone, chosen = reference_nested(library, get_metric(metric), rules)
    assert honest.chosen == chosen
    assert honest.blend.proba is not None
    np.testing.assert_allclose(honest.blend.proba, blend, atol=2e-4)
    assert honest.single.proba is not None
    np.testing.assert_allclose(honest.single.proba, alone["best_single"], atol=1e-5)
    for name, outcome in honest.methods.items():
        expected = Outcome.of(library.labels, alone[name], keep_proba=False)
        np.testing.assert_allclose(outcome.p_true, expected.p_true, atol=2e-4)
        assert np.mean(outcome.decided != expected.decided) <= 0.02


def test_the_reference_has_something_to_tell_apart() -> None:
    library = made_library(7, rows=90)
    _, alone, _ = reference_nested(library, LOG_LOSS)
    for a, b in ((a, b) for a in METHODS for b in METHODS if a < b):
        assert np.abs(alone[a] - alone[b]).max() > 0.01


class Recording(Fitter):
    """Notes which folds were out, and which rows were asked for."""

    def predict(self, held_out, rows, ways, keep=()):  # type: ignore[no-untyped-def]
        self.asked = [*getattr(self, "asked", []), (held_out, set(rows.tolist()))]
        return super().predict(held_out, rows, ways, keep)


def test_choices_use_pairs_of_folds_alone_and_scores_use_single_ones() -> None:
    library = made_library(rows=60, folds=4)
    plain = fitter_of(library, "equal", "convex")
    fitter = Recording(library, plain.settings, plain.held_out)
    nested(fitter)
    rows = {fold: set(np.flatnonzero(library.folds == fold).tolist()) for fold in range(4)}
    for out, asked in fitter.asked:
        assert len(out) in (1, 2)
        assert asked == set().union(*(rows[fold] for fold in out))
    outs = [out for out, _ in fitter.asked]
    assert len(outs) == len(set(outs)) == 4 + 6  # each only once


def test_one_method_and_no_rules_need_no_pairs() -> None:
    library = made_library(rows=60, folds=4)
    plain = fitter_of(library, "convex")
    fitter = Recording(library, plain.settings, held_out_sets(range(4), choosing=False))
    honest = nested(fitter)
    assert [out for out, _ in fitter.asked] == [frozenset({fold}) for fold in range(4)]
    assert set(honest.chosen.values()) == {"convex"}
    np.testing.assert_array_equal(honest.blend.p_true, honest.methods["convex"].p_true)


def test_two_folds_choose_by_the_rows_that_they_learn_from() -> None:
    library = made_library(rows=60, folds=2)
    plain = fitter_of(library, "equal", "convex")
    fitter = Recording(library, plain.settings, plain.held_out)
    honest = nested(fitter)
    assert {out for out, _ in fitter.asked} == {FIRST, frozenset({1})}
    for fold in (0, 1):
        out = frozenset({fold})
        rows = fitter.rows_outside(out)
        names = ("equal", "convex", "best_single")
        own = {n: s["calibration"] for n, s in fitter.predict(out, rows, names).items()}
        single = own.pop("best_single")
        expected = choose(library.labels[rows], own, LOG_LOSS, single=single)
        assert honest.chosen[fold] == expected.method


def test_right_rules_help_and_wrong_ones_are_not_trusted() -> None:
    library = made_library(3, rows=300)
    score = lambda outcome: outcome.score(LOG_LOSS, library.labels)  # noqa: E731
    right = nested(fitter_of(library, "equal"), overrides(library, right=0.95))
    assert list(right.stages) == ["weights", "calibration", "rules"]
    assert score(right.blend) < score(right.before_rules) - 0.1
    wrong = nested(fitter_of(library, "equal"), overrides(library, right=0.0))
    np.testing.assert_allclose(wrong.blend.p_true, wrong.before_rules.p_true, atol=1e-6)
    np.testing.assert_array_equal(wrong.before_rules.p_true, right.before_rules.p_true)


def test_rules_of_which_the_user_is_sure_are_applied_as_they_are() -> None:
    library = made_library(3, rows=60)
    made = overrides(library, right=0.0)
    sure = Rules(made.source, made.ids, made.targets, made.within, made.strength, fixed=True)
    honest = nested(fitter_of(library, "equal"), sure)
    assert honest.blend.proba is not None
    touched = sure.touched(library.ids)
    aims = dict(zip(sure.ids, sure.targets.argmax(axis=1), strict=True))
    decided = honest.blend.decided[touched]
    assert decided.tolist() == [aims[name] for name in library.ids[touched]]


@pytest.mark.parametrize("share", [0.02, 1.0])
def test_rules_may_touch_no_row_of_some_folds(share: float) -> None:
    library = made_library(3, rows=60)
    honest = nested(fitter_of(library, "equal", "convex"), overrides(library, 1.0, share, seed=5))
    assert honest.blend.p_true.shape == (60,)
    unknown = overrides(library, 1.0)
    elsewhere = np.array([f"other {name}" for name in unknown.ids], dtype=object)
    nowhere = Rules("x", elsewhere, unknown.targets, unknown.within, unknown.strength, False)
    untouched = nested(fitter_of(library, "equal", "convex"), nowhere)
    np.testing.assert_allclose(untouched.blend.p_true, untouched.before_rules.p_true, atol=1e-6)


def test_whole_probabilities_are_kept_only_where_they_are_needed() -> None:
    library = made_library(rows=60)
    of_log_loss = nested(fitter_of(library, "equal", "convex"))
    assert of_log_loss.blend.proba is not None
    assert of_log_loss.single.proba is not None
    unused = {"equal", "convex"} - set(of_log_loss.chosen.values())
    assert all(of_log_loss.methods[name].proba is None for name in unused)
    of_brier = nested(fitter_of(library, "equal", "convex", metric="brier"))
    assert all(outcome.proba is not None for outcome in of_brier.methods.values())
    short = nested(
        fitter_of(true_class_only(library), "equal", calibrate=False, calibrate_blend="none")
    )
    assert short.blend.proba is None
    assert list(short.stages) == ["weights"]


def test_progress_names_every_held_out_fold() -> None:
    said: list[str] = []
    fitter = fitter_of(made_library(), "equal")
    fitter.say = said.append
    nested(fitter)
    assert [line for line in said if "nested" in line] == [
        f"nested score: fold {number} of 3 held out" for number in (1, 2, 3)
    ]


def test_held_out_sets_are_none_each_and_each_two_where_a_choice_can_use_them() -> None:
    assert held_out_sets([3, 1, 7], choosing=False) == [
        NO_FOLDS, frozenset({3}), frozenset({1}), frozenset({7}),
    ]  # fmt: skip
    more = held_out_sets([3, 1, 7], choosing=True)
    assert more[4:] == [frozenset({3, 1}), frozenset({3, 7}), frozenset({1, 7})]
    assert held_out_sets([0, 1], choosing=True) == [NO_FOLDS, FIRST, frozenset({1})]
    assert len(held_out_sets(range(5), choosing=True)) == 1 + 5 + 10


def test_more_than_ten_folds_are_merged_into_ten_parts_for_the_choice() -> None:
    assert parts_of([3, 1]) == [frozenset({3}), frozenset({1})]
    parts = parts_of(range(23))
    assert len(parts) == MAX_PARTS
    assert sorted(len(part) for part in parts) == [2] * 7 + [3] * 3
    assert sorted(fold for part in parts for fold in part) == list(range(23))
    assert len(held_out_sets(range(100), choosing=True)) == 1 + 100 + 10 + 45
    assert len(held_out_sets(range(10), choosing=True)) == 1 + 10 + 45


def test_a_merged_choice_sees_every_other_row_once_and_never_the_fold() -> None:
    library = made_library(rows=120, folds=12)
    plain = fitter_of(library, "equal", "convex")
    fitter = Recording(library, plain.settings, plain.held_out)
    run = _Run(fitter, None, 0)
    for fold in library.fold_names:
        inner = run._inner(fold)
        assert sorted(inner.rows) == np.flatnonzero(library.folds != fold).tolist()
        without = [(out, rows) for out, rows in fitter.asked if fold in out]
        for row in (0, 40, -1):
            outs = [out for out, rows in without if int(inner.rows[row]) in rows]
            out = min(outs, key=len)  # a row of the fold's own part: by the fits without that part
            found = plain.predict(out, inner.rows[[row]], ("convex",))["convex"]["calibration"]
            assert inner.outcomes["convex"].p_true[row] == pytest.approx(found.p_true[0])
    outs = [out for out, _ in fitter.asked]
    assert len(outs) == len(set(outs)) == 45 + 2  # each two parts once, and the parts of two folds


def test_pairs_of_folds_are_dropped_as_soon_as_both_have_used_them() -> None:
    library = made_library(rows=60, folds=5)
    run = _Run(fitter_of(library, "equal", "convex", metric="brier"), None, 0)
    waiting = []
    for number, fold in enumerate(library.fold_names):
        run.part(number, fold)
        waiting.append(len(run._waiting))
    assert waiting == [4, 6, 6, 4, 0]


def test_folds_without_weight_are_no_part_of_a_choice() -> None:
    library = made_library(rows=60, folds=3)
    weighted = replace(library, row_weights=(library.folds < 2).astype(float))
    assert held_out_sets([0, 1, 2], choosing=True, weighted={0, 1}) == [
        NO_FOLDS, FIRST, frozenset({1}), frozenset({2}), frozenset({0, 2}), frozenset({1, 2}),
    ]  # fmt: skip
    sets = held_out_sets([0, 1, 2], choosing=True, weighted=weighted.weighted_folds)
    fitter = Recording(weighted, fitter_of(weighted, "equal", "convex").settings, sets)
    nested(fitter)
    assert frozenset({0, 1}) not in {out for out, _ in fitter.asked}
