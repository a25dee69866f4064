from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ensemble import fitting
from ensemble.calibration import apply_temperature, fit_calibration, fit_temperature
from ensemble.combine import Combination
from ensemble.errors import BlendError
from ensemble.fitting import NO_FOLDS, SINGLE, Fitter, joined, outcome_of
from ensemble.hierarchy import divide_anew, fit_group
from ensemble.methods import METHODS, TRUE_CLASS_METHODS, FitRows
from ensemble.nested import nested
from ensemble.outcome import Outcome
from tests.ensemble.made_library import fitter_of, made_library, overrides, true_class_only

FIRST = frozenset({0})
QUICK = ("equal", "convex")


def tempered(fitter: Fitter, rows: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    probs = fitter.library.probs
    assert probs is not None
    pairs = zip(probs, temperatures, strict=True)
    return np.stack([apply_temperature(proba[rows], t) for proba, t in pairs])


@pytest.mark.parametrize("weighted", [False, True])
def test_everything_is_fitted_on_the_rows_outside(weighted: bool) -> None:
    fitter = fitter_of(made_library(weighted=weighted), *QUICK)
    library, rows = fitter.library, np.flatnonzero(fitter.library.folds != 0)
    assert library.probs is not None
    weights = None if library.row_weights is None else library.row_weights[rows]
    fits, labels = fitter.fits(FIRST), library.labels[rows]
    expected = [fit_temperature(p[rows], labels, row_weights=weights) for p in library.probs]
    np.testing.assert_allclose(fits.temperatures, expected, rtol=1e-5)
    probs = tempered(fitter, rows, fits.temperatures).astype(np.float32)
    learnt = fitter.fit_rows(FIRST)
    assert learnt.probs is not None
    np.testing.assert_allclose(learnt.probs, probs, atol=1e-6)
    np.testing.assert_allclose(learnt.p_true, probs[:, np.arange(len(rows)), labels], atol=1e-6)
    np.testing.assert_array_equal(learnt.labels, labels)
    assert learnt.p_true.flags.c_contiguous
    for name in (*QUICK, SINGLE):
        combination = METHODS[name].fit(learnt)
        assert fits.ways[name].combination == combination
        after = fit_calibration(
            "temperature", combination(learnt.probs), labels, row_weights=weights
        )
        assert fits.ways[name].calibration.temperature == pytest.approx(after.temperature, rel=1e-4)


def test_a_prediction_goes_through_its_stages_in_order() -> None:
    groups = ((0, 2),)
    fitter = fitter_of(made_library(rows=120), "convex", groups=groups)
    library, rows = fitter.library, np.flatnonzero(fitter.library.folds == 0)
    found = fitter.predict(FIRST, rows, ("convex",), ("convex",))["convex"]
    assert list(found) == ["weights", "calibration", "groups"]
    fits, probs = fitter.fits(FIRST), tempered(fitter, rows, fitter.fits(FIRST).temperatures)
    way = fits.ways["convex"]
    weighted = way.combination(probs)
    calibrated = way.calibration(weighted)
    assert fits.groups is not None
    divided = divide_anew(calibrated, probs, *fits.groups[0])
    for stage, expected in zip(found.values(), (weighted, calibrated, divided), strict=True):
        assert stage.proba is not None
        assert stage.proba.dtype == np.float32
        np.testing.assert_allclose(stage.proba, expected, atol=1e-6)
        np.testing.assert_allclose(
            stage.p_true, expected[np.arange(len(rows)), library.labels[rows]], atol=1e-6
        )
        np.testing.assert_array_equal(stage.decided, expected.argmax(axis=1))
    learnt = fitter.fit_rows(FIRST)
    assert learnt.probs is not None
    np.testing.assert_array_equal(fits.groups[0][1], fit_group(learnt.probs, learnt.labels, (0, 2)))


def test_one_member_alone_has_no_second_blend_but_keeps_the_stage() -> None:
    fitter = fitter_of(made_library(rows=120), SINGLE, groups=((0, 2),))
    rows = fitter.rows_in(FIRST)
    found = fitter.predict(FIRST, rows, (SINGLE,), (SINGLE,))[SINGLE]
    assert list(found) == ["weights", "calibration", "groups"]
    np.testing.assert_array_equal(found["groups"].p_true, found["calibration"].p_true)
    assert fitter.fits(FIRST).groups_of(SINGLE) == ()
    assert len(fitter.fits(FIRST).groups_of("equal")) == 1


def test_folds_in_which_no_group_was_found_still_have_the_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = made_library(rows=120)
    with_fold = Counter(library.labels[library.folds != 0].tolist())

    def only_without_fold_0(
        labels: np.ndarray, *_: object, **__: object
    ) -> tuple[tuple[int, ...], ...]:
        return ((0, 1),) if Counter(labels.tolist()) == with_fold else ()

    monkeypatch.setattr(fitting, "confused_groups", only_without_fold_0)
    fitter = fitter_of(library, "equal", groups="auto")
    assert len(fitter.fits(FIRST).groups or ()) == 1
    assert fitter.fits(frozenset({1})).groups == ()
    honest = nested(fitter)
    assert list(honest.stages) == ["weights", "calibration", "groups"]
    changed = honest.stages["groups"].p_true != honest.stages["calibration"].p_true
    assert changed[library.folds == 0].any()
    assert not changed[library.folds != 0].any()


def test_each_set_of_held_out_folds_is_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: Counter[tuple[str, int]] = Counter()
    temperatures: list[int] = []

    def counting(name: str):  # type: ignore[no-untyped-def]
        def fit(rows: FitRows) -> Combination:
            fitted[name, len(rows.labels)] += 1
            return METHODS[name].fit(rows)

        return replace(METHODS[name], fit=fit)

    def count_temperatures(*given: object, **named: object) -> np.ndarray:
        temperatures.append(len(given[3]))  # type: ignore[arg-type]
        return whole(*given, **named)  # type: ignore[arg-type]

    whole = fitting.fit_temperatures_without
    monkeypatch.setattr(fitting, "METHODS", {name: counting(name) for name in METHODS})
    monkeypatch.setattr(fitting, "fit_temperatures_without", count_temperatures)
    library = made_library(rows=100, folds=5, members=4)
    fitter = fitter_of(library, *QUICK)
    nested(fitter, overrides(library, 0.9))
    fitter.predict(NO_FOLDS, np.arange(100), fitter.ways)
    fitter.predict(NO_FOLDS, np.arange(100), fitter.ways)
    # All rows once, each fold out once, each pair of five folds out once; every way each time.
    assert fitted == {
        (name, rows): times
        for name in (*QUICK, SINGLE)
        for rows, times in ((100, 1), (80, 5), (60, 10))
    }
    assert temperatures == [16] * 4  # one pass a member for all sets


def test_blocks_and_scratch_files_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    library = made_library(rows=90)
    methods = tuple(METHODS)
    rows = np.flatnonzero(library.folds == 1)
    out, groups = frozenset({1}), "auto"
    one = fitter_of(library, *methods, greedy_steps=4, groups=groups)
    expected = one.predict(out, rows, methods, methods)
    in_files = fitter_of(library, *methods, greedy_steps=4, groups=groups, memory_bytes=0)
    assert isinstance(in_files.tempered(rows, np.ones(3)), np.memmap)
    monkeypatch.setattr(fitting, "BLOCK_VALUES", 50)
    for name, stages in in_files.predict(out, rows, methods, methods).items():
        for stage, outcome in stages.items():
            assert outcome.proba is not None
            np.testing.assert_array_equal(outcome.proba, expected[name][stage].proba)


def test_the_true_class_alone_gives_the_same_fits_and_probabilities() -> None:
    library = made_library(rows=90, weighted=True)
    options = {"calibrate": False, "calibrate_blend": "none", "greedy_steps": 6}
    whole = fitter_of(library, *TRUE_CLASS_METHODS, **options)
    short = fitter_of(true_class_only(library), *TRUE_CLASS_METHODS, **options)
    rows = np.flatnonzero(library.folds == 0)
    for name in TRUE_CLASS_METHODS:
        a, b = (fitter.fits(FIRST).ways[name].combination for fitter in (whole, short))
        np.testing.assert_allclose(a.weights, b.weights, atol=1e-6)
        a, b = (fitter.predict(FIRST, rows, (name,))[name]["weights"] for fitter in (whole, short))
        np.testing.assert_allclose(a.p_true, b.p_true, atol=1e-6)
        assert set(b.decided.tolist()) == {fitting.UNDECIDED}
    assert short.fit_rows(FIRST).probs is None
    assert whole.fit_rows(FIRST).probs is None  # nobody asked for more


@pytest.mark.parametrize(
    ("methods", "metric", "options", "what"),
    [
        (("equal", "stacking"), "log_loss", {}, "stacking"),
        (("log_mean",), "log_loss", {}, "log_mean"),
        (("equal",), "accuracy", {}, "accuracy"),
        (("equal",), "log_loss", {"calibrate": True}, "calibration"),
        (("equal",), "log_loss", {"calibrate_blend": "vector"}, "calibration"),
        (("equal",), "log_loss", {"groups": "auto"}, "groups"),
    ],
)
def test_what_needs_all_classes_is_refused_in_a_line(
    methods: tuple[str, ...], metric: str, options: dict, what: str
) -> None:
    plain = {"calibrate": False, "calibrate_blend": "none"} | options
    with pytest.raises(BlendError, match=f"^{what} needs .* of all classes.* use log_loss") as hit:
        fitter_of(true_class_only(made_library()), *methods, metric=metric, **plain)
    assert "\n" not in str(hit.value)


def test_outcomes_are_joined_row_by_row_and_keep_probabilities_only_if_all_do() -> None:
    labels, proba = np.array([0, 1, 1]), np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    kept, other = (outcome_of(labels, proba, keep=keep) for keep in (True, False))
    assert kept.proba is not None
    assert kept.proba.dtype == np.float32
    assert other.proba is None
    both = joined([kept, kept.take(np.array([2]))])
    assert both.p_true.tolist() == [0.7, 0.4, 0.8, 0.8]
    assert both.decided.tolist() == [0, 0, 1, 1]
    assert both.proba is not None
    assert both.proba.shape == (4, 2)
    assert joined([kept, other]).proba is None
    assert isinstance(joined([other]), Outcome)
