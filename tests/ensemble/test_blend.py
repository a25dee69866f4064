from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble import blend as blend_module
from ensemble.blend import Blend, BlendSettings, fit_blend
from ensemble.bootstrap import bootstrap_interval, paired_difference
from ensemble.calibration import apply_temperature, fit_temperature
from ensemble.errors import BlendError
from ensemble.metrics import ACCURACY, LOG_LOSS, METRICS, Metric
from ensemble.nested import nested_predictions
from ensemble.predictions import Predictions
from tests.ensemble.made import made_members, member_probabilities, members_of

CLASSES = ("cat", "dog", "élan")
QUICK = BlendSettings(bootstrap=0, greedy_steps=5)
ALL = pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)


def fit(settings: BlendSettings = QUICK, **made: int) -> Blend:
    return fit_blend(made_members(**made), CLASSES, settings)


def relabelled(members: dict[str, Predictions], labels: np.ndarray) -> dict[str, Predictions]:
    return {name: Predictions(m.ids, labels, m.folds, m.proba) for name, m in members.items()}


@ALL
def test_every_number_of_a_blend_is_in_its_place(metric: Metric) -> None:
    blend = fit(BlendSettings(metric=metric.name, bootstrap=50, confidence=0.9))
    members = made_members()
    assert (blend.version, blend.metric, blend.classes) == (1, metric.name, CLASSES)
    assert (blend.n_rows, blend.n_folds, blend.probe_fold) == (120, 3, 0)
    assert (blend.confidence, blend.bootstrap) == (0.9, 50)
    assert [method.name for method in blend.methods] == ["equal", "greedy", "convex"]
    assert sum(member.weight for member in blend.members) == pytest.approx(1.0)
    weights = [member.weight for member in blend.members]
    assert weights == sorted(weights, reverse=True)
    assert {member.config_id for member in blend.members} == set(members)
    chosen = next(method for method in blend.methods if method.name == blend.method)
    for member in blend.members:
        stored = members[member.config_id]
        assert member.temperature == fit_temperature(stored.proba, stored.labels)
        assert member.score == metric(stored.labels, stored.proba)
        assert member.accuracy == ACCURACY(stored.labels, stored.proba)
        assert member.log_loss == LOG_LOSS(stored.labels, stored.proba)
        assert chosen.weights[member.config_id] == member.weight
    assert chosen.in_sample == blend.in_sample
    assert metric.loss(chosen.nested) == min(metric.loss(method.nested) for method in blend.methods)
    for scores in (blend.nested.blend, blend.nested.best_single):
        assert scores.low <= scores.value <= scores.high  # type: ignore[operator]
    assert blend.score is blend.nested.blend
    assert blend.metrics["blend"][metric.name] == blend.score.value
    assert blend.metrics["best_single"][metric.name] == blend.nested.best_single.value
    assert set(blend.metrics["blend"]) == {"log_loss", "accuracy", "macro_f1"}
    assert blend.nested.difference.value == pytest.approx(
        blend.score.value - blend.nested.best_single.value
    )
    assert (blend.certificate is not None) == (blend.method == "convex")


def nested_by_hand(
    members: dict[str, Predictions], settings: BlendSettings
) -> tuple[np.ndarray, np.ndarray]:
    """The headline and the best single member, fold by fold, from public parts: for each fold, a
    whole blend of the other folds predicts it."""
    first = next(iter(members.values()))
    blends, singles = np.empty(first.proba.shape), np.empty(first.proba.shape)
    for fold in np.unique(first.folds):
        rest = {name: member.take(member.folds != fold) for name, member in members.items()}
        held_out = {name: member.take(member.folds == fold) for name, member in members.items()}
        inner = fit_blend(rest, CLASSES, settings)
        rows = first.folds == fold
        blends[rows] = inner.combine({name: m.proba[None] for name, m in held_out.items()})
        single = inner.nested.best_single.config_id
        temperature = next(m.temperature for m in inner.members if m.config_id == single)
        singles[rows] = apply_temperature(held_out[single].proba, temperature)
    return blends, singles


@ALL
@pytest.mark.parametrize("calibrate", [True, False])
def test_the_headline_is_what_a_blend_of_the_other_folds_scores_on_each_fold(
    metric: Metric, calibrate: bool
) -> None:
    settings = BlendSettings(metric=metric.name, calibrate=calibrate, bootstrap=30, greedy_steps=5)
    members = made_members(seed=4)
    labels, folds = members["c0"].labels, members["c0"].folds
    blends, singles = nested_by_hand(members, settings)
    nested = fit_blend(members, CLASSES, settings).nested
    outside = folds != 0
    for scores, proba in ((nested.blend, blends), (nested.best_single, singles)):
        assert scores.value == pytest.approx(metric(labels, proba), rel=1e-9)
        interval = bootstrap_interval(labels, proba, metric, resamples=30, confidence=0.95, seed=0)
        assert (scores.low, scores.high) == pytest.approx((interval.low, interval.high))
        assert scores.without_probe_fold.value == pytest.approx(
            metric(labels[outside], proba[outside])
        )
    difference = paired_difference(
        labels[outside], blends[outside], singles[outside], metric,
        resamples=30, confidence=0.95, seed=0,
    )  # fmt: skip
    got = nested.difference.without_probe_fold
    assert (got.value, got.low, got.high) == pytest.approx(
        (difference.value, difference.low, difference.high)
    )


@ALL
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), fold=st.integers(0, 2))
def test_no_label_of_a_fold_reaches_its_own_nested_predictions(
    metric: Metric, seed: int, fold: int
) -> None:
    members = made_members(seed=seed % 1000, members=3, rows=30)
    stored = members["c0"]
    changed = np.where(stored.folds == fold, (stored.labels + 1) % 3, stored.labels)
    chosen = BlendSettings(metric=metric.name, bootstrap=0, greedy_steps=4)
    before = recorded_nested_predictions(members, chosen)
    after = recorded_nested_predictions(relabelled(members, changed), chosen)
    rows = stored.folds == fold
    np.testing.assert_array_equal(after[rows], before[rows])


def recorded_nested_predictions(
    members: dict[str, Predictions], chosen: BlendSettings
) -> np.ndarray:
    """What `fit_blend` judges: (rows, methods + blend + best single, classes)."""
    seen: list[np.ndarray] = []

    def record(*given: object) -> np.ndarray:
        predicted = nested_predictions(*given)  # type: ignore[arg-type]
        seen.append(predicted)
        return predicted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blend_module, "nested_predictions", record)
        fit_blend(members, CLASSES, chosen)
    return seen[-1]  # the outer loop ends last


def test_noise_in_sample_flatters_and_nested_does_not() -> None:
    # Sixty members that know nothing: weights fitted on 90 rows find luck, the nested score not.
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), size=(60, 90)).astype(np.float32)
    labels, folds = rng.integers(3, size=90), np.arange(90) % 3
    blend = fit_blend(members_of(probs, labels, folds), CLASSES, BlendSettings(bootstrap=0))
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
        blend = fit_blend(members, CLASSES, BlendSettings(metric=name, bootstrap=200))
        difference = blend.nested.difference
        best, worst = (difference.high, difference.low)[:: 1 if name == "log_loss" else -1]
        assert METRICS[name].loss(best) < 0  # type: ignore[arg-type]
        assert METRICS[name].loss(worst) < 0  # type: ignore[arg-type]


@ALL
def test_one_member_has_all_the_weight_and_no_gain(metric: Metric) -> None:
    blend = fit(BlendSettings(metric=metric.name, bootstrap=20), members=1)
    assert [(m.config_id, m.weight) for m in blend.members] == [("c0", 1.0)]
    assert blend.score.value == blend.nested.best_single.value
    difference = blend.nested.difference
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


@ALL
def test_two_folds_are_enough(metric: Metric) -> None:
    members = {
        name: Predictions(m.ids, m.labels, np.minimum(m.folds, 1), m.proba)
        for name, m in made_members().items()
    }
    blend = fit_blend(members, CLASSES, BlendSettings(metric=metric.name, bootstrap=5))
    assert blend.n_folds == 2
    assert metric.bounds[0] <= blend.score.value <= metric.bounds[1]


@pytest.mark.parametrize("method", ["equal", "greedy", "convex"])
def test_a_single_method_is_used_and_is_the_headline(method: str) -> None:
    blend = fit(BlendSettings(methods=(method,), bootstrap=0))
    assert blend.method == method
    assert blend.score.value == blend.methods[0].nested
    assert blend.score.without_probe_fold.value == blend.methods[0].nested_without_probe_fold


def test_without_calibration_every_temperature_is_one() -> None:
    blend = fit(BlendSettings(calibrate=False, bootstrap=0))
    assert {member.temperature for member in blend.members} == {1.0}


def test_the_order_of_members_and_rows_does_not_matter() -> None:
    members = made_members()
    expected = fit_blend(members, CLASSES, QUICK)
    assert fit_blend(dict(reversed(members.items())), CLASSES, QUICK) == expected
    rng = np.random.default_rng(0)
    shuffled = {
        name: member.take(rng.permutation(120)) if name != "c0" else member
        for name, member in members.items()
    }
    assert fit_blend(shuffled, CLASSES, QUICK) == expected


def test_the_probe_fold_may_be_any_and_may_be_missing() -> None:
    by_fold = {fold: fit(BlendSettings(bootstrap=0, probe_fold=fold)).score for fold in (0, 2, 99)}
    assert by_fold[0].value == by_fold[2].value == by_fold[99].value
    assert by_fold[0].without_probe_fold != by_fold[2].without_probe_fold
    assert by_fold[99].without_probe_fold.value == by_fold[99].value


def test_groups_widen_the_intervals_by_id_or_by_row() -> None:
    members = made_members(rows=240)
    ids = members["c0"].ids
    settings_ = BlendSettings(bootstrap=300)
    by_row = np.array([f"patient {i % 8}" for i in range(240)], dtype=object)
    alone = fit_blend(members, CLASSES, settings_).score
    grouped = fit_blend(members, CLASSES, settings_, groups=by_row).score
    assert (grouped.low, grouped.high) != (alone.low, alone.high)
    mapping = dict(zip(ids, by_row, strict=True))
    assert fit_blend(members, CLASSES, settings_, groups=mapping).score == grouped
    nobody = dict.fromkeys(ids)
    assert fit_blend(members, CLASSES, settings_, groups=nobody).score == alone
    with pytest.raises(BlendError, match=r"none for 239 .first 'image 1.jpg'"):
        fit_blend(members, CLASSES, settings_, groups={ids[0]: "a"})
    with pytest.raises(BlendError, match="expected 240 groups"):
        fit_blend(members, CLASSES, settings_, groups=by_row[:5])


def test_progress_names_every_held_out_fold() -> None:
    said: list[str] = []
    fit_blend(made_members(), CLASSES, QUICK, progress=said.append)
    assert [line for line in said if "nested" in line] == [
        f"nested score: fold {fold} of 3 held out" for fold in range(3)
    ]


def altered(column: str, values: np.ndarray) -> dict[str, Predictions]:
    members = made_members(members=2)
    last = members["c1"]
    columns = {name: getattr(last, name) for name in ("ids", "labels", "folds", "proba")}
    return members | {"c1": Predictions(**(columns | {column: values}))}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "at least one member"),
        (
            altered("ids", np.array([f"other {i}" for i in range(120)])),
            "configuration c1 beside c0: expected 120 ids, got 120: 120 missing .*120 unexpected",
        ),
        (
            altered("labels", (made_members()["c0"].labels + 1) % 3),
            "configuration c1, id 'image 0.jpg': expected label .*120 rows differ",
        ),
        (altered("folds", np.zeros(120, int)), "expected fold . as in c0, got 0 .80 rows differ"),
        (altered("proba", np.full((120, 4), 0.25)), "c1: expected 3 classes as in c0, got 4"),
        (
            {"c0": made_members()["c0"].take(np.arange(120)[made_members()["c0"].folds == 1])},
            r"at least two folds, got \[1\]",
        ),
    ],
)
def test_members_that_do_not_fit_are_refused_by_name(
    members: dict[str, Predictions], message: str
) -> None:
    with pytest.raises(BlendError, match=message) as caught:
        fit_blend(members, CLASSES, QUICK)
    assert "\n" not in str(caught.value)


def test_rows_without_a_label_are_refused() -> None:
    members = made_members(members=1)
    labels = np.where(np.arange(120) == 7, -1, members["c0"].labels)
    with pytest.raises(BlendError, match=r"got 1 without \(first id 'image 7.jpg'\)"):
        fit_blend(relabelled(members, labels), CLASSES, QUICK)


def test_class_names_must_fit() -> None:
    with pytest.raises(BlendError, match="expected 2 classes, got 3"):
        fit_blend(made_members(), ("a", "b"), QUICK)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metric": "logloss"}, "did you mean log_loss"),
        ({"methods": ("stacking",)}, "unknown blend method 'stacking'"),
        ({"bootstrap": -1}, "bootstrap: expected 0"),
        ({"confidence": 95}, "confidence: expected between 0 and 1"),
        ({"greedy_steps": 0}, "greedy step"),
    ],
)
def test_settings_are_checked_where_they_are_made(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BlendSettings(**wrong)


def test_members_of_one_value_each_are_survived() -> None:
    probs, labels, folds = member_probabilities(0, 3, 30, 3)
    flat = np.full_like(probs, 1 / 3)
    blend = fit_blend(members_of(flat, labels, folds), CLASSES, BlendSettings(bootstrap=5))
    assert blend.score.value == pytest.approx(np.log(3), abs=1e-6)
