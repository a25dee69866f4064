from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensemble.blend import Blend, BlendSettings, fit_blend, fit_library
from ensemble.calibration import fit_temperature
from ensemble.fitting import NO_FOLDS, Fitter
from ensemble.library import read_library
from ensemble.methods import AUTO, METHODS
from ensemble.metrics import ACCURACY, LOG_LOSS, METRICS, get_metric
from ensemble.nested import held_out_sets, nested
from tests.ensemble.made import made_members, member_probabilities, members_of
from tests.ensemble.made_library import made_library

CLASSES = ("cat", "dog", "élan")
QUICK = BlendSettings(bootstrap=0, greedy_steps=5, refits=0, explain=False)
ALL = pytest.mark.parametrize("metric", ["log_loss", "accuracy", "macro_f1", "brier"])


def fit(settings: BlendSettings = QUICK, **made: int) -> Blend:
    return fit_blend(made_members(**made), CLASSES, settings)


@ALL
def test_every_number_of_a_blend_is_in_its_place(metric: str) -> None:
    blend = fit(BlendSettings(metric=metric, bootstrap=50, confidence=0.9, refits=3))
    members, chosen_metric = made_members(), get_metric(metric)
    assert (blend.version, blend.metric, blend.classes) == (2, metric, CLASSES)
    assert (blend.n_rows, blend.n_folds, blend.probe_fold) == (120, 3, 0)
    assert (blend.confidence, blend.bootstrap) == (0.9, 50)
    assert tuple(method.name for method in blend.methods) == AUTO
    assert sum(member.weight for member in blend.members) == pytest.approx(1.0)
    weights = [member.weight for member in blend.members]
    assert weights == sorted(weights, reverse=True) == blend.combination.weights.tolist()
    assert {member.config_id for member in blend.members} == set(members)
    chosen = next(method for method in blend.methods if method.name == blend.method)
    for member in blend.members:
        stored = members[member.config_id]
        expected = fit_temperature(stored.proba, stored.labels)
        assert member.temperature == pytest.approx(expected, rel=1e-5)
        assert member.score == pytest.approx(chosen_metric(stored.labels, stored.proba))
        assert member.accuracy == ACCURACY(stored.labels, stored.proba)
        assert member.log_loss == pytest.approx(LOG_LOSS(stored.labels, stored.proba))
        assert chosen.weights[member.config_id] == member.weight
    assert chosen.in_sample == blend.in_sample
    for scores in (blend.nested.blend, blend.nested.best_single):
        assert scores.low <= scores.value <= scores.high  # type: ignore[operator]
    assert blend.score is blend.nested.blend
    assert blend.metrics["blend"][metric] == blend.score.value
    assert blend.metrics["best_single"][metric] == blend.nested.best_single.value
    assert set(blend.metrics["blend"]) == {"log_loss", "accuracy", "macro_f1", metric}
    assert blend.nested.difference.value == pytest.approx(
        blend.score.value - blend.nested.best_single.value
    )
    assert (blend.certificate is not None) == (blend.method == "convex")
    assert blend.stages[-1].nested == blend.score.value
    assert [stage.name for stage in blend.stages] == ["weights", "calibration"]


@ALL
def test_the_method_is_the_simplest_within_one_standard_error_of_the_best(metric: str) -> None:
    for seed in range(3):
        blend = fit(replace(QUICK, metric=metric), seed=seed)
        losses = [get_metric(metric).loss(method.nested) for method in blend.methods]
        assert [method.behind for method in blend.methods] == pytest.approx(
            [loss - min(losses) for loss in losses], abs=1e-12
        )
        bar = get_metric(metric).loss(blend.nested.best_single.value)
        within = [
            method.name
            for method, loss in zip(blend.methods, losses, strict=True)
            if method.behind <= method.standard_error  # type: ignore[operator]
            and (loss <= bar or method.behind == 0)
        ]
        assert blend.method == within[0]
        assert blend.choice.startswith(f"{blend.method}: ")
        assert all(name in blend.choice for name in AUTO)


def test_the_headline_is_the_score_of_the_nested_predictions() -> None:
    settings = BlendSettings(bootstrap=0, refits=0, explain=False)
    library = made_library(4, rows=120, weighted=True)
    fitted = fit_library(library, settings)
    sets = held_out_sets(library.fold_names, choosing=True)
    honest = nested(Fitter(library, settings.fitting(library.classes), sets))
    assert fitted.blend.score.value == honest.blend.score(
        LOG_LOSS, library.labels, library.row_weights
    )
    single = honest.single.score(LOG_LOSS, library.labels, library.row_weights)
    assert fitted.blend.nested.best_single.value == single
    predictions = fitted.nested_predictions()
    assert predictions is not None
    assert predictions.ids.tolist() == library.ids.tolist()
    assert predictions.folds.tolist() == library.folds.tolist()
    np.testing.assert_array_equal(predictions.proba, fitted.nested.proba)
    assert LOG_LOSS(library.labels, predictions.proba, library.row_weights) == pytest.approx(
        fitted.blend.score.value, abs=1e-6
    )
    before = honest.stages["weights"].proba
    assert before is not None
    np.testing.assert_array_equal(fitted.before_calibration.proba, before)


def test_the_blend_predicts_what_the_final_fit_predicts() -> None:
    # Given each member's stored probabilities, as one fold, it says what in-sample was scored.
    members = made_members(rows=90)
    folds = {name: member.proba[None] for name, member in members.items()}
    labels = members["c0"].labels
    for method in METHODS:
        for after in ("none", "temperature", "vector"):
            settings = replace(
                QUICK, methods=(method,), calibrate_blend=after, groups=(("cat", "élan"),)
            )
            blend = fit_blend(members, CLASSES, settings)
            proba = blend.combine(folds)
            assert LOG_LOSS(labels, proba) == pytest.approx(blend.in_sample, abs=1e-4)


def test_in_sample_is_judged_on_fitted_rows_and_flatters() -> None:
    gaps = []
    for seed in range(10):
        blend = fit(replace(QUICK, methods=("convex",)), seed=seed, rows=60)
        gaps.append(blend.score.value - blend.in_sample)
        assert blend.methods[0].in_sample == blend.in_sample
    assert np.mean(gaps) > 0
    members = made_members(rows=60)
    blend = fit_blend(members, CLASSES, replace(QUICK, methods=("convex",)))
    library = read_library(list(members), members.__getitem__, CLASSES)
    settings = replace(QUICK, methods=("convex",)).fitting(CLASSES)
    fitter = Fitter(library, settings, held_out_sets(library.fold_names, choosing=True))
    own = fitter.predict(NO_FOLDS, np.arange(60), ("convex",))["convex"]["calibration"]
    assert blend.in_sample == own.score(LOG_LOSS, library.labels)


def test_noise_in_sample_flatters_and_nested_does_not() -> None:
    # Sixty members that know nothing: weights fitted on 90 rows find luck, the nested score not.
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), size=(60, 90)).astype(np.float32)
    labels, folds = rng.integers(3, size=90), np.arange(90) % 3
    blend = fit_blend(members_of(probs, labels, folds), CLASSES, QUICK)
    convex = next(method for method in blend.methods if method.name == "convex")
    assert convex.in_sample < np.log(3) - 0.02
    assert convex.nested > np.log(3) + 0.02
    assert blend.score.value >= np.log(3) - 0.01


def test_averaging_diverse_members_beats_the_best_single_one() -> None:
    rng = np.random.default_rng(1)
    labels, folds = rng.integers(3, size=1500), np.arange(1500) % 5
    logits = 1.5 * np.eye(3)[labels] + 1.2 * rng.normal(size=(6, 1500, 3))
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    members = members_of(probs.astype(np.float32), labels, folds)
    for name in METRICS:
        settings = replace(QUICK, metric=name, bootstrap=200)
        difference = fit_blend(members, CLASSES, settings).nested.difference
        best, worst = (difference.high, difference.low)[:: 1 if name == "log_loss" else -1]
        assert METRICS[name].loss(best) < 0  # type: ignore[arg-type]
        assert METRICS[name].loss(worst) < 0  # type: ignore[arg-type]


@ALL
def test_one_member_has_all_the_weight_and_no_gain(metric: str) -> None:
    means = ("equal", "convex", "greedy")
    blend = fit(BlendSettings(metric=metric, methods=means, bootstrap=20), members=1)
    assert [(m.config_id, m.weight) for m in blend.members] == [("c0", 1.0)]
    assert blend.score.value == blend.nested.best_single.value
    difference = blend.nested.difference
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_method_is_used_and_is_the_headline(method: str) -> None:
    blend = fit(replace(QUICK, methods=(method,)), rows=60)
    assert blend.method == method
    assert blend.score.value == blend.methods[0].nested
    assert blend.score.without_probe_fold.value == blend.methods[0].nested_without_probe_fold
    assert (blend.methods[0].behind, blend.methods[0].standard_error) == (None, None)
    assert (blend.certificate is not None) == (method == "convex")
    if blend.certificate is not None:
        assert blend.certificate <= 1e-6
    if method == "best_single":
        assert blend.score.value == blend.nested.best_single.value
        assert blend.nested.best_single.config_id == blend.used_members[0].config_id


def test_without_calibration_every_temperature_is_one() -> None:
    blend = fit(replace(QUICK, calibrate=False, calibrate_blend="none"))
    assert {member.temperature for member in blend.members} == {1.0}
    assert blend.calibration.kind == "none"
    assert [stage.name for stage in blend.stages] == ["weights"]


def test_the_order_of_members_and_rows_does_not_matter() -> None:
    members = made_members()
    settings = replace(QUICK, bootstrap=20, refits=2, explain=True)
    expected = fit_blend(members, CLASSES, settings)
    assert fit_blend(dict(reversed(members.items())), CLASSES, settings) == expected
    rng = np.random.default_rng(0)
    shuffled = {
        name: member.take(rng.permutation(120)) if name != "c0" else member
        for name, member in members.items()
    }
    assert fit_blend(shuffled, CLASSES, settings) == expected
    order = rng.permutation(120)
    everywhere = {name: member.take(order) for name, member in members.items()}
    again = fit_blend(everywhere, CLASSES, QUICK)
    assert again.score.value == pytest.approx(expected.score.value, abs=1e-5)
    assert again.in_sample == pytest.approx(expected.in_sample, abs=1e-5)


@pytest.mark.parametrize("method", ["best_single", "convex", "greedy", "swap"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_duplicate_member_changes_no_score(method: str, weighted: bool) -> None:
    members = made_members(rows=90)
    weights = np.random.default_rng(0).uniform(0.5, 2, size=90) if weighted else None
    settings = replace(QUICK, methods=(method,))
    once = fit_blend(members, CLASSES, settings, row_weights=weights)
    name = once.used_members[0].config_id
    twice = fit_blend(members | {"zz": members[name]}, CLASSES, settings, row_weights=weights)
    assert twice.score.value == pytest.approx(once.score.value, abs=1e-4)
    assert twice.in_sample == pytest.approx(once.in_sample, abs=1e-4)
    assert twice.nested.best_single.value == pytest.approx(once.nested.best_single.value)
    weight = {member.config_id: member.weight for member in twice.members}
    assert weight[name] + weight["zz"] == pytest.approx(once.used_members[0].weight, abs=2e-2)


def test_members_show_their_stability_and_what_they_add() -> None:
    blend = fit(replace(QUICK, methods=("convex",), refits=4, explain=True))
    for member in blend.members:
        assert member.stability is not None
        assert member.stability.refits == 4
        assert (member.without is None) == (member.weight == 0)
        assert member.only_right is not None
        assert 0 <= member.only_right < 1
    plain = fit(replace(QUICK, methods=("convex",)))
    assert {(m.stability, m.without, m.only_right) for m in plain.members} == {(None, None, None)}


def test_the_probe_fold_may_be_any_and_may_be_missing() -> None:
    by_fold = {fold: fit(replace(QUICK, probe_fold=fold)).score for fold in (0, 2, 99)}
    assert by_fold[0].value == by_fold[2].value == by_fold[99].value
    assert by_fold[0].without_probe_fold != by_fold[2].without_probe_fold
    assert by_fold[99].without_probe_fold.value == by_fold[99].value


def test_progress_names_every_held_out_fold() -> None:
    said: list[str] = []
    fit_blend(made_members(), CLASSES, QUICK, progress=said.append)
    assert [line for line in said if "nested" in line] == [
        f"nested score: fold {number} of 3 held out" for number in (1, 2, 3)
    ]


def test_members_of_one_value_each_are_survived() -> None:
    probs, labels, folds = member_probabilities(0, 3, 30, 3)
    flat = np.full_like(probs, 1 / 3)
    blend = fit_blend(members_of(flat, labels, folds), CLASSES, BlendSettings(bootstrap=5))
    assert blend.score.value == pytest.approx(np.log(3), abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metric": "logloss"}, "did you mean log_loss"),
        ({"methods": ("stackin",)}, "unknown blend method 'stackin'.*did you mean stacking"),
        ({"methods": ()}, "got no blend method"),
        ({"bootstrap": -1}, "bootstrap: expected 0"),
        ({"refits": -1}, "refits: expected 0"),
        ({"l2": -0.5}, "l2: expected 0"),
        ({"confidence": 95}, "confidence: expected between 0 and 1"),
        ({"greedy_steps": 0}, "greedy_steps: expected 1"),
        ({"calibrate_blend": "platt"}, "calibrate_blend: expected none, temperature or vector"),
    ],
)
def test_settings_are_checked_where_they_are_made(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        BlendSettings(**wrong)
    assert "\n" not in str(caught.value)
