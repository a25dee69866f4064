from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from ensemble.blend import BlendSettings, fit_blend
from ensemble.blender import FoldBlender
from ensemble.errors import BlendError
from ensemble.metrics import LOG_LOSS
from tests.ensemble.made import member_probabilities, members_of

NAMES = np.array(["ant", "bee", "cat"])


def quick(**parameters: object) -> FoldBlender:
    return FoldBlender(**{"methods": "convex", "bootstrap": 0, **parameters})  # type: ignore[arg-type]


def made(
    seed: int = 0, members: int = 4, rows: int = 90, classes: int = 3
) -> tuple[NDArray[np.float32], np.ndarray, NDArray[np.int64]]:
    probs, labels, folds = member_probabilities(seed, members, rows, classes)
    return probs, NAMES[labels] if classes == 3 else labels, folds


def side_by_side(probs: np.ndarray) -> np.ndarray:
    return np.concatenate(list(probs), axis=1)


def test_the_three_forms_of_members_fit_and_predict_the_same() -> None:
    probs, y, folds = made()
    by_name = {f"member_{index}": proba for index, proba in enumerate(probs)}
    forms = [by_name, probs, side_by_side(probs), list(probs), pd.DataFrame(side_by_side(probs))]
    fits = [quick().fit(form, y, folds) for form in forms]
    expected = fits[0].predict_proba(by_name)
    for fit in fits:
        assert fit.weights_.tolist() == fits[0].weights_.tolist()
        for form in forms:
            np.testing.assert_array_equal(fit.predict_proba(form), expected)


def test_the_blend_is_the_one_that_fit_blend_makes() -> None:
    probs, labels, folds = member_probabilities(1, 4, 120, 3)
    members = members_of(probs, labels, folds)
    blend = fit_blend(
        members, ("0", "1", "2"), BlendSettings(bootstrap=50, refits=2, seed=3, probe_fold=-1)
    )
    by_name = {name: member.proba for name, member in members.items()}
    fit = FoldBlender(bootstrap=50, refits=2, explain=True, random_state=3)
    assert fit.fit(by_name, labels, folds).blend_.to_dict() == blend.to_dict()


def test_attributes_say_what_was_fitted() -> None:
    probs, y, folds = made()
    members = dict(zip("zyxw", probs, strict=True))
    fit = FoldBlender(bootstrap=20).fit(members, y, folds)
    assert fit.member_names_ == ("z", "y", "x", "w")
    assert fit.n_members_ == 4
    assert fit.classes_.tolist() == ["ant", "bee", "cat"]
    weight_of = {member.config_id: member.weight for member in fit.blend_.members}
    assert fit.weights_.tolist() == [weight_of[name] for name in fit.member_names_]
    assert fit.weights_.sum() == pytest.approx(1)
    assert fit.best_single_ in members
    assert fit.best_single_score_ == fit.blend_.nested.best_single.value
    assert fit.in_sample_score_ == fit.blend_.in_sample
    assert fit.blend_.score.low < fit.nested_score_ < fit.blend_.score.high
    assert not hasattr(fit, "n_features_in_")


def test_the_nested_score_is_the_metric_of_the_out_of_fold_blend() -> None:
    probs, y, folds = made()
    fit = FoldBlender(bootstrap=0).fit(probs, y, folds)
    assert fit.oof_proba_.shape == (90, 3)
    assert fit.oof_proba_.dtype == np.float32
    labels = np.searchsorted(NAMES, y)
    assert LOG_LOSS(labels, fit.oof_proba_) == pytest.approx(fit.nested_score_, abs=1e-6)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), row=st.integers(0, 59))
def test_a_rows_label_never_reaches_its_own_out_of_fold_prediction(seed: int, row: int) -> None:
    probs, y, folds = made(seed, members=3, rows=60)
    before = quick().fit(probs, y, folds).oof_proba_
    changed = y.copy()
    changed[row] = NAMES[(np.searchsorted(NAMES, y[row]) + 1) % 3]
    after = quick().fit(probs, changed, folds).oof_proba_
    same = folds == folds[row]
    np.testing.assert_array_equal(before[same], after[same])


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), order=st.permutations(range(4)))
def test_permuting_members_permutes_weights(seed: int, order: list[int]) -> None:
    probs, y, folds = made(seed)
    weights = quick().fit(probs, y, folds).weights_
    np.testing.assert_allclose(
        quick().fit(probs[order], y, folds).weights_, weights[order], atol=1e-4
    )


def test_one_member_without_calibration_returns_its_own_probabilities() -> None:
    probs, y, folds = made(members=1)
    fit = quick(calibrate=False, calibrate_blend="none").fit(probs, y, folds)
    assert fit.weights_.tolist() == [1.0]
    np.testing.assert_allclose(fit.predict_proba(probs), probs[0], atol=1e-6)


def test_classes_may_have_an_order_of_their_own_and_labels_that_no_row_has() -> None:
    probs, y, folds = made()
    order = [2, 0, 1]
    usual = quick().fit(probs, y, folds)
    other = quick().fit(probs[:, :, order], y, folds, classes=NAMES[order])
    assert other.classes_.tolist() == NAMES[order].tolist()
    np.testing.assert_allclose(other.weights_, usual.weights_, atol=1e-6)
    assert other.predict(probs[:, :, order]).tolist() == usual.predict(probs).tolist()
    two = y != "cat"
    few = quick().fit(side_by_side(probs)[two], y[two], folds[two], classes=NAMES)
    assert few.predict_proba(side_by_side(probs)).shape == (90, 3)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["x", "y", "z"]),
        np.array(["x", "y", "z"], dtype=object),
        np.array([3, 5, 400]),
        np.array([0.0, 1.0, 2.0]),
        np.array([False, True]),
    ],
)
def test_labels_of_any_type_come_back_as_they_were_also_from_a_file(
    labels: np.ndarray, tmp_path: Path
) -> None:
    probs, numbers, folds = member_probabilities(0, 3, 60, len(labels))
    y = labels[numbers]
    fit = quick().fit(probs, y, folds)
    fit.save(tmp_path / "blender.json")
    read = FoldBlender.load(tmp_path / "blender.json")
    for one in (fit, read):
        predicted = one.predict(probs)
        assert predicted.dtype == y.dtype
        assert one.score(probs, y) == np.mean(predicted == y) > 0.5


def test_a_file_holds_all_but_the_out_of_fold_predictions(tmp_path: Path) -> None:
    probs, y, folds = made()
    table = pd.DataFrame(side_by_side(probs)).rename(columns=lambda column: f"p{column}")
    fit = FoldBlender(methods=("equal", "convex"), bootstrap=20, l2=0.1, random_state=4)
    fit.fit(table, y, folds).save(tmp_path / "blender.json")
    read = FoldBlender.load(tmp_path / "blender.json")
    assert read.get_params() == fit.get_params()
    assert read.blend_.to_dict() == fit.blend_.to_dict()
    assert read.feature_names_in_.tolist() == table.columns.tolist()
    assert read.n_features_in_ == 12
    assert read.weights_.tolist() == fit.weights_.tolist()
    assert (read.member_names_, read.nested_score_) == (fit.member_names_, fit.nested_score_)
    np.testing.assert_array_equal(read.predict_proba(table), fit.predict_proba(table))
    assert not hasattr(read, "oof_proba_")


def test_what_is_no_saved_blender_is_refused_with_its_name(tmp_path: Path) -> None:
    probs, y, folds = made()
    path = tmp_path / "blender.json"
    quick().fit(probs, y, folds).save(path)
    content = json.loads(path.read_text())
    wrong = [
        ("{", "Expecting"),
        ("[]", "expected a saved FoldBlender"),
        (json.dumps(content | {"version": 2}), "of version 2"),
        (json.dumps(content | {"parameters": {"metrik": "auc"}}), "metrik"),
        (json.dumps({k: v for k, v in content.items() if k != "classes"}), "key 'classes'"),
        (json.dumps(content | {"member_names": ["a"]}), "expected the members member_0"),
    ]
    for text, words in wrong:
        path.write_text(text)
        with pytest.raises(BlendError, match=words) as caught:
            FoldBlender.load(path)
        assert str(path) in str(caught.value)
    with pytest.raises(FileNotFoundError):
        FoldBlender.load(tmp_path / "none.json")


def test_a_random_state_that_json_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    probs, y, folds = made()
    fit = quick(random_state=np.random.RandomState(0)).fit(probs, y, folds)
    with pytest.raises(ValueError, match="random_state"):
        fit.save(tmp_path / "blender.json")
    assert list(tmp_path.iterdir()) == []


def test_only_a_fitted_blender_predicts_and_saves(tmp_path: Path) -> None:
    probs, y, folds = made()
    for call in (FoldBlender().predict, FoldBlender().predict_proba):
        with pytest.raises(NotFittedError):
            call(probs)
    with pytest.raises(NotFittedError):
        FoldBlender().save(tmp_path / "blender.json")
    with pytest.raises(NotFittedError):
        clone(quick().fit(probs, y, folds)).predict(probs)


def test_predictions_of_fold_models_are_averaged() -> None:
    probs, y, folds = made(members=2)
    members = {"a": probs[0], "b": probs[1]}
    fit = quick(calibrate=False, methods="equal").fit(members, y, folds)
    by_fold = {"a": np.stack([probs[0], probs[1]]), "b": probs[1]}
    mean = {"a": (probs[0] + probs[1]) / 2, "b": probs[1]}
    np.testing.assert_allclose(fit.predict_proba(by_fold), fit.predict_proba(mean), atol=1e-6)


def test_members_of_weight_zero_may_be_missing_and_no_others() -> None:
    probs, y, folds = made()
    members = {"good": probs[0], "noise": np.roll(probs[1], 1, axis=0)}
    fit = quick(methods="best_single").fit(members, y, folds)
    assert fit.weights_.tolist() == [1.0, 0.0]
    assert fit.predict_proba({"good": probs[0]}).shape == (90, 3)
    with pytest.raises(BlendError, match="expected predictions of member good"):
        fit.predict_proba({"noise": probs[1]})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "member b, row 7, class 1: expected a probability from 0 to 1, got NaN"),
        (-0.5, "member b, row 7, class 1: expected a probability from 0 to 1, got -0.5"),
        (1.5, "member b: row 7, class 1: expected a probability from 0 to 1, got 1.5"),
        (0.9999, "member b: row 7: expected a sum of 1"),
    ],
)
def test_what_is_no_probability_is_refused_by_member_and_row(value: float, words: str) -> None:
    probs, y, folds = made(members=2)
    fit = quick(methods="equal").fit({"a": probs[0], "b": probs[1]}, y, folds)
    probs[1, 7] = [0.5, value, 0.5]
    members = {"a": probs[0], "b": probs[1]}
    with pytest.raises(ValueError, match=words):
        quick().fit(members, y, folds)
    with pytest.raises(ValueError, match=words):
        fit.predict_proba(members)
    with pytest.raises(ValueError, match=words.replace("member b", "member member_1")):
        quick().fit(side_by_side(probs), y, folds)


def test_members_that_do_not_fit_are_refused() -> None:
    probs, y, folds = made()
    table = side_by_side(probs)
    refused = [
        (lambda: quick().fit(table[:, :-1], y, folds), "3 columns, one a class, for every member"),
        (lambda: quick(n_members=3).fit(table, y, folds), "for each of 3 members, got n_features"),
        (lambda: quick().fit(probs[:, :-1], y, folds), "member member_0: expected 90 rows of 3"),
        (lambda: quick().fit({"a": probs[0, :, :2]}, y, folds), "member a: expected 90 rows of 3"),
        (lambda: quick().fit({"a": y.reshape(-1, 1)}, y, folds), "member a: expected"),
        (lambda: quick().fit(probs, y, folds).predict(probs[:2]), "expected 4 members, got 2"),
        (lambda: quick().fit(table, y, folds).predict(table[:, :6]), "X has 6 features"),
        (lambda: quick().fit(probs, y, folds).predict(table[:, :6]), "each of 4 members"),
        (lambda: quick().fit(probs, y, y[:-1]), "folds: expected shape"),
        (lambda: quick().fit(probs, np.array(["a", 1] * 45, dtype=object), folds), "labels"),
        (lambda: quick().fit(probs, np.linspace(0, 1, 90), folds), "continuous"),
    ]
    for call, words in refused:
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"metric": "log_los"}, "did you mean log_loss"),
        ({"methods": ("gredy",)}, "did you mean greedy"),
        ({"methods": ()}, "no blend method"),
        ({"calibrate_blend": "isotonic"}, "calibrate_blend: expected none"),
        ({"bootstrap": -1}, "bootstrap: expected 0 or more"),
        ({"n_folds": 1}, "n_folds: expected 2 or more"),
        ({"n_folds": 91}, "n_samples = 90"),
    ],
)
def test_parameters_are_checked_when_fitting_and_not_before(
    parameters: dict[str, object], words: str
) -> None:
    probs, y, _ = made()
    blender = quick(**parameters)
    with pytest.raises(ValueError, match=words):
        blender.fit(probs, y)
    assert not hasattr(blender, "blend_")


def test_folds_are_made_where_none_are_given_from_the_seed_and_of_whole_groups() -> None:
    probs, y, _ = made()
    one, same, other = (quick(random_state=seed).fit(probs, y) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.oof_proba_, same.oof_proba_)
    assert not np.array_equal(one.oof_proba_, other.oof_proba_)
    assert one.blend_.n_folds == 5
    assert quick(n_folds=3).fit(probs, y, groups=np.arange(90) // 30).blend_.n_folds == 3
    with pytest.raises(BlendError, match="expected at least 5 groups"):
        quick().fit(probs, y, groups=np.arange(90) // 30)


def test_a_row_of_weight_zero_counts_as_absent() -> None:
    probs, y, folds = made()
    weights = np.where(np.arange(90) % 4 == 0, 0.0, 2.0)
    kept = weights > 0
    weighted = quick().fit(probs, y, folds, sample_weight=weights)
    fewer = quick().fit(probs[:, kept], y[kept], folds[kept])
    np.testing.assert_allclose(weighted.weights_, fewer.weights_, atol=1e-6)
    assert weighted.nested_score_ == pytest.approx(fewer.nested_score_, abs=1e-6)


def test_another_form_forgets_the_features_of_the_fit_before() -> None:
    probs, y, folds = made()
    table = pd.DataFrame(side_by_side(probs)).rename(columns=str)
    blender = quick().fit(table, y, folds)
    assert blender.n_features_in_ == 12
    assert not hasattr(blender.fit(probs, y, folds), "n_features_in_")
    assert not hasattr(blender, "feature_names_in_")


def test_it_works_in_a_pipeline_and_in_cross_validation() -> None:
    probs, y, _ = made()
    table = side_by_side(probs)
    pipeline = make_pipeline(FunctionTransformer(), quick(n_folds=3))
    proba = cross_val_predict(pipeline, table, y, cv=3, method="predict_proba")
    assert proba.shape == (90, 3)
    assert np.mean(NAMES[proba.argmax(axis=1)] == y) > 0.5
    assert cross_val_score(pipeline, table, y, cv=3, scoring="neg_log_loss").mean() > -1
    groups = np.arange(90) // 3
    params = {"foldblender__groups": groups, "foldblender__classes": NAMES}
    predicted = cross_val_predict(pipeline, table, y, cv=3, params=params)
    assert set(predicted) <= set(NAMES)


def test_metadata_routing_knows_folds_and_weights_and_takes_members_for_features() -> None:
    routed = quick(n_folds=3).get_metadata_routing().fit.requests
    assert set(routed) == {"folds", "groups", "sample_weight", "classes"}
    probs, y, _ = made()
    with config_context(enable_metadata_routing=True):
        blender = quick(n_folds=3).set_fit_request(groups=True, sample_weight=True)
        params = {"groups": np.arange(90) // 3, "sample_weight": np.ones(90)}
        predicted = cross_val_predict(blender, side_by_side(probs), y, cv=3, params=params)
    assert np.mean(predicted == y) > 0.5


def test_a_pickle_predicts_the_same() -> None:
    probs, y, folds = made()
    fit = FoldBlender(methods=("auto", "stacking"), bootstrap=0).fit(probs, y, folds)
    again = pickle.loads(pickle.dumps(fit))
    np.testing.assert_array_equal(again.predict_proba(probs), fit.predict_proba(probs))


def test_the_callers_arrays_stay_as_they_were() -> None:
    probs, y, folds = made()
    before = probs.copy(), y.copy(), folds.copy()
    quick().fit(probs, y, folds).predict_proba(probs)
    for array, copy in zip((probs, y, folds), before, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert array.flags.writeable


def test_importing_it_loads_neither_torch_nor_ray() -> None:
    code = "import sys, ensemble.blender; print(sorted({'torch', 'ray'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
