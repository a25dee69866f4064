"""What a blend may be given besides members: groups, row weights, rules, groups of classes, only
the true class; and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensemble.blend import Blend, BlendSettings, Fitted, fit_blend, fit_library
from ensemble.errors import BlendError
from ensemble.library import Library
from ensemble.methods import METHODS
from ensemble.predictions import Predictions
from ensemble.rules import Rules
from tests.ensemble.made import made_members
from tests.ensemble.made_library import made_library, overrides, relabelled, true_class_only

CLASSES = ("cat", "dog", "élan")
QUICK = BlendSettings(bootstrap=0, greedy_steps=5, refits=0, explain=False)
FAST = replace(
    QUICK, calibrate=False, calibrate_blend="none", methods=("equal", "convex", "greedy")
)


def width(blend: Blend) -> float:
    assert blend.score.low is not None
    assert blend.score.high is not None
    return blend.score.high - blend.score.low


def test_groups_widen_the_intervals_by_id_or_by_row() -> None:
    members = made_members(rows=240)
    ids, settings = members["c0"].ids, replace(QUICK, bootstrap=300)
    folds = members["c0"].folds
    by_row = np.array([f"patient {fold} {i % 4}" for i, fold in enumerate(folds)], dtype=object)
    alone = fit_blend(members, CLASSES, settings)
    grouped = fit_blend(members, CLASSES, settings, groups=by_row)
    assert (grouped.score.low, grouped.score.high) != (alone.score.low, alone.score.high)
    mapping = dict(zip(ids, by_row, strict=True))
    assert fit_blend(members, CLASSES, settings, groups=mapping).score == grouped.score
    nobody = dict.fromkeys(ids)
    assert fit_blend(members, CLASSES, settings, groups=nobody).score == alone.score
    with pytest.raises(BlendError, match=r"none for 239 .first 'image 1.jpg'"):
        fit_blend(members, CLASSES, settings, groups={ids[0]: "a"})
    with pytest.raises(BlendError, match="expected 240 groups"):
        fit_blend(members, CLASSES, settings, groups=by_row[:5])


def repeated(library: Library, times: np.ndarray) -> Library:
    """Each row as often as `times` (N,) says, in its own fold, under ids of their own."""
    rows = np.repeat(np.arange(library.n_rows), times)
    assert library.probs is not None
    return Library(
        names=library.names,
        classes=library.classes,
        ids=np.array([f"{name} {i}" for i, name in enumerate(library.ids[rows])], dtype=object),
        labels=library.labels[rows],
        folds=library.folds[rows],
        p_true=np.ascontiguousarray(library.p_true[:, rows]),
        probs=np.ascontiguousarray(library.probs[:, rows]),
    )


def points(fitted: Fitted) -> dict[str, float]:
    blend = fitted.blend
    return {
        "nested": blend.score.value,
        "outside": blend.score.without_probe_fold.value,
        "single": blend.nested.best_single.value,
        "in-sample": blend.in_sample,
        **{f"stage {stage.name}": stage.nested for stage in blend.stages},
        **{f"of {method.name}": method.nested for method in blend.methods},
        **{f"in-sample {method.name}": method.in_sample for method in blend.methods},
    }


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "macro_f1", "brier"])
@pytest.mark.parametrize(
    "method", ["equal", "convex", "greedy", "swap", "class_mean", "stacking", "rank_mean"]
)
def test_whole_row_weights_are_repeated_rows(metric: str, method: str) -> None:
    library = made_library(8, rows=120)  # a group has its 20 rows either way
    times = np.random.default_rng(0).integers(0, 4, size=120)
    weighted = replace(library, row_weights=times.astype(np.float64))
    settings = replace(QUICK, metric=metric, methods=(method,), groups=(("cat", "dog"),))
    a, b = (fit_library(each, settings) for each in (weighted, repeated(library, times)))
    # Temperatures and weights are optima: the sums behind them round in another order.
    assert points(a) == pytest.approx(points(b), abs=2e-4)
    assert width_of_members(a) == pytest.approx(width_of_members(b), abs=1e-6)


def width_of_members(fitted: Fitted) -> dict[str, float]:
    return {member.config_id: member.score for member in fitted.blend.members}


@pytest.mark.parametrize("method", ["equal", "convex", "greedy"])
def test_the_true_class_alone_gives_the_same_blend(method: str) -> None:
    library = made_library(9, rows=120, members=5, weighted=True, grouped=True)
    settings = replace(FAST, methods=(method,), bootstrap=30, refits=3, explain=True)
    whole, short = (fit_library(each, settings) for each in (library, true_class_only(library)))
    assert points(short) == pytest.approx(points(whole), abs=1e-6)
    assert [m.config_id for m in short.blend.members] == [m.config_id for m in whole.blend.members]
    for a, b in zip(short.blend.members, whole.blend.members, strict=True):
        assert (a.weight, a.without, a.log_loss, a.score) == pytest.approx(
            (b.weight, b.without, b.log_loss, b.score), abs=1e-6
        )
        assert a.stability == b.stability
        assert (a.accuracy, a.macro_f1, a.only_right) == (None, None, None)
    assert short.blend.score.low == pytest.approx(whole.blend.score.low, abs=1e-6)
    assert set(short.blend.metrics["blend"]) == {"log_loss"}
    assert short.nested_predictions() is None
    assert short.nested.proba is None


def test_the_choice_among_methods_is_the_same_from_the_true_class_alone() -> None:
    for seed in range(5):
        library = made_library(seed, rows=90)
        a, b = (fit_library(each, FAST).blend for each in (library, true_class_only(library)))
        assert (a.method, a.choice) == (b.method, b.choice)
        assert a.score.value == pytest.approx(b.score.value, abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"calibrate": True}, "calibration"),
        ({"calibrate_blend": "temperature"}, "calibration"),
        ({"groups": "auto"}, "groups"),
        ({"metric": "accuracy"}, "accuracy"),
        ({"metric": "brier"}, "brier"),
        ({"methods": ("auto",)}, "log_mean"),
        ({"methods": ("vote",)}, "vote"),
    ],
)
def test_more_than_the_true_class_allows_is_refused_in_a_line(changed: dict, what: str) -> None:
    library = true_class_only(made_library())
    with pytest.raises(BlendError, match=f"^{what} needs the probabilities of all") as caught:
        fit_library(library, replace(FAST, **changed))
    assert "\n" not in str(caught.value)


def test_rules_need_whole_probabilities() -> None:
    library = true_class_only(made_library())
    with pytest.raises(BlendError, match=r"rules of made\.csv need the probabilities of all"):
        fit_library(library, FAST, rules=overrides(library, 1.0))


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "brier"])
def test_scratch_files_change_nothing(metric: str) -> None:
    members = made_members(rows=60)
    rules = overrides(made_library(rows=60), 0.9)
    settings = replace(
        QUICK, metric=metric, methods=tuple(METHODS), bootstrap=5, refits=2, explain=True,
        groups="auto",
    )  # fmt: skip
    blends = [
        fit_blend(members, CLASSES, replace(settings, memory_bytes=size), rules=rules)
        for size in (settings.memory_bytes, 0)
    ]
    assert blends[0].to_dict() == blends[1].to_dict()


def test_right_rules_are_a_stage_that_helps_and_predicting_applies_them() -> None:
    library = made_library(3, rows=300)
    right = fit_library(library, QUICK, rules=overrides(library, right=0.9)).blend
    assert [stage.name for stage in right.stages] == ["weights", "calibration", "rules"]
    assert right.stages[-1].nested == right.score.value < right.stages[-2].nested - 0.1
    assert right.rules is not None
    assert 0.5 < right.rules.trust <= 1.0
    wrong = fit_library(library, QUICK, rules=overrides(library, right=0.0)).blend
    assert wrong.rules is not None
    assert wrong.rules.trust == 0.0
    assert wrong.stages[-1].nested == pytest.approx(wrong.stages[-2].nested)
    test = {
        name: [Predictions(library.ids, np.full(300, -1), np.zeros(300, int), proba)]
        for name, proba in zip(library.names, library.probs, strict=True)  # type: ignore[arg-type]
    }
    rules = overrides(library, right=0.9)
    before, after = right.predict(test).proba, right.predict(test, rules).proba
    expected = rules.apply(library.ids, before, right.rules.trust)
    np.testing.assert_allclose(after, expected, atol=1e-6)
    assert not np.allclose(after, before, atol=0.1)
    np.testing.assert_array_equal(wrong.predict(test, rules).proba, wrong.predict(test).proba)


def test_rules_can_be_fixed_by_the_user() -> None:
    library = made_library(3, rows=90)
    made = overrides(library, right=0.0)
    sure = Rules(made.source, made.ids, made.targets, made.within, made.strength, fixed=True)
    blend = fit_library(library, QUICK, rules=sure).blend
    assert blend.rules is not None
    assert blend.rules.trust == 1.0
    assert blend.score.value > blend.stages[-2].nested


def look_alikes() -> Library:
    """Cat and dog look alike to all members but the last, which knows little else."""
    rng = np.random.default_rng(0)
    library = made_library(0, members=3, rows=600, classes=4)
    labels = library.labels
    logits = rng.normal(size=(3, 600, 4))
    truth = np.eye(4)[labels]
    logits[:2] += 4.0 * truth
    logits[:2, :, :2] += 3.0 * (labels < 2)[:, None] - 4.0 * truth[:, :2]  # one of both, that much
    logits[2, :, :2] += 4.0 * truth[:, :2]
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return relabelled(replace(library, probs=probs.astype(np.float32)), labels)


@pytest.mark.parametrize("groups", ["auto", (("cat", "dog"),)])
def test_a_second_blend_uses_the_member_that_tells_two_classes_apart(groups: object) -> None:
    library = look_alikes()
    settings = replace(QUICK, groups=groups, methods=("convex",))  # type: ignore[arg-type]
    blend = fit_library(library, settings).blend
    assert [stage.name for stage in blend.stages] == ["weights", "calibration", "groups"]
    assert blend.stages[-1].nested == blend.score.value < blend.stages[-2].nested - 0.05
    (group,) = blend.groups
    assert group.classes == (0, 1)
    expert = [member.config_id for member in blend.members].index("c2")
    assert group.weights[expert] > 0.9
    assert "c2" in {member.config_id for member in blend.used_members}


def test_a_group_that_never_is_confused_stays_a_stage_without_a_second_blend() -> None:
    library = made_library(rows=90)
    probs = np.repeat(0.97 * np.eye(3)[library.labels][None] + 0.01, 3, axis=0).astype(np.float32)
    sure = relabelled(replace(library, probs=probs), library.labels)
    blend = fit_library(sure, replace(QUICK, groups="auto")).blend
    assert blend.groups == ()
    assert [stage.name for stage in blend.stages] == ["weights", "calibration", "groups"]
    assert blend.stages[-1].nested == blend.stages[-2].nested


@pytest.mark.parametrize("seed", range(5))
def test_the_best_single_member_may_win_beside_second_blends(seed: int) -> None:
    settings = replace(QUICK, methods=("best_single", "convex"), groups="auto")
    blend = fit_library(made_library(seed, rows=90), settings).blend
    assert [stage.name for stage in blend.stages] == ["weights", "calibration", "groups"]
    if blend.method == "best_single":
        assert blend.groups == ()
        assert len(blend.used_members) == 1


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((("cat", "bird"),), "no class 'bird'"),
        ((("cat",),), "at least two classes in a group"),
        ("autos", "groups: expected class names or auto, got 'autos'"),
    ],
)
def test_groups_that_mean_nothing_are_refused(groups: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_blend(made_members(), CLASSES, replace(QUICK, groups=groups))  # type: ignore[arg-type]


def altered(column: str, values: np.ndarray) -> dict[str, Predictions]:
    members = made_members(members=2)
    last = members["c1"]
    columns = {name: getattr(last, name) for name in ("ids", "labels", "folds", "proba")}
    return members | {"c1": Predictions(**(columns | {column: values}))}


def with_label(members: dict[str, Predictions], labels: np.ndarray) -> dict[str, Predictions]:
    return {name: Predictions(m.ids, labels, m.folds, m.proba) for name, m in members.items()}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "at least one member"),
        (
            altered("ids", np.array([f"other {i}" for i in range(120)])),
            "member c1 beside c0: expected 120 ids, got 120: 120 missing .*120 unexpected",
        ),
        (
            altered("labels", (made_members()["c0"].labels + 1) % 3),
            "member c1, id 'image 0.jpg': expected label .*120 rows differ",
        ),
        (altered("folds", np.zeros(120, int)), "expected fold . as in c0, got 0 .80 rows differ"),
        (altered("proba", np.full((120, 4), 0.25)), "c1: expected 3 classes as in c0, got 4"),
        (
            {"c0": made_members()["c0"].take(np.arange(120)[made_members()["c0"].folds == 1])},
            r"at least two folds, got \[1\]",
        ),
        (
            with_label(made_members(members=1), np.where(np.arange(120) == 7, -1, 0)),
            r"got 1 without \(first id 'image 7.jpg'\)",
        ),
    ],
)
def test_members_that_do_not_fit_are_refused_by_name(
    members: dict[str, Predictions], message: str
) -> None:
    with pytest.raises(BlendError, match=message) as caught:
        fit_blend(members, CLASSES, QUICK)
    assert "\n" not in str(caught.value)


def test_a_library_of_one_fold_or_unknown_labels_is_refused() -> None:
    library = made_library()
    with pytest.raises(BlendError, match=r"at least two folds, got \[0\]"):
        replace(library, folds=np.zeros(60, dtype=np.int16))
    with pytest.raises(BlendError, match=r"label in every row, got 1 without \(first id 'image 4"):
        replace(library, labels=np.where(np.arange(60) == 4, -1, library.labels).astype(np.int32))


def test_class_names_and_row_weights_must_fit() -> None:
    with pytest.raises(BlendError, match="expected 2 classes, got 3"):
        fit_blend(made_members(), ("a", "b"), QUICK)
    for weights, message in (
        (np.ones(5), "expected 120 row weights"),
        (np.zeros(120), "not all of them 0"),
        (np.full(120, -1.0), "at least 0"),
        (np.full(120, np.nan), "finite"),
    ):
        with pytest.raises(BlendError, match=message):
            fit_blend(made_members(), CLASSES, QUICK, row_weights=weights)


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "brier"])
def test_two_folds_of_any_name_are_enough(metric: str) -> None:
    members = {
        name: Predictions(m.ids, m.labels, np.where(m.folds == 0, 7, 3), m.proba)
        for name, m in made_members().items()
    }
    blend = fit_blend(members, CLASSES, replace(QUICK, metric=metric, bootstrap=5))
    assert blend.n_folds == 2
    assert blend.score.value > 0


@pytest.mark.parametrize("folds", [3, 4, 12])
@pytest.mark.parametrize("groups", [(), "auto", (("cat", "dog"),)])
def test_folds_without_weight_teach_nothing_and_stop_nothing(folds: int, groups: object) -> None:
    library = made_library(5, rows=240, folds=folds)
    weighted = replace(library, row_weights=(library.folds < 2).astype(float))
    settings = replace(QUICK, groups=groups, bootstrap=20, refits=2, explain=True)
    blend = fit_library(weighted, settings).blend
    rows = library.folds < 2
    assert library.probs is not None
    alone = replace(
        library,
        ids=library.ids[rows],
        labels=library.labels[rows],
        folds=library.folds[rows],
        p_true=library.p_true[:, rows],
        probs=library.probs[:, rows],
    )
    assert blend.score.value == pytest.approx(fit_library(alone, settings).blend.score.value)


@pytest.mark.parametrize("factor", [1.0009, 0.9991])
def test_a_factor_on_the_probabilities_is_no_gain_in_log_loss(factor: float) -> None:
    made = made_members(rows=90)

    def scaled(by: float) -> dict[str, Predictions]:
        return {
            name: Predictions(one.ids, one.labels, one.folds, (one.proba * 0.9 + 0.1 / 3) * by)
            for name, one in made.items()
        }

    plain = replace(FAST, methods=("equal",))
    a, b = (fit_blend(scaled(by), CLASSES, plain) for by in (1.0, factor))
    assert b.score.value == pytest.approx(a.score.value, abs=1e-6)
    assert b.nested.best_single.value == pytest.approx(a.nested.best_single.value, abs=1e-6)
