from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble.average import weighted_average
from ensemble.blend import BlendSettings, fit_blend, fit_library
from ensemble.blend_value import (
    AppliedRules,
    Blend,
    BlendMember,
    SecondBlend,
    read_blend,
    write_blend,
)
from ensemble.calibration import Calibration, apply_temperature
from ensemble.combine import Combination
from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.hierarchy import divide_anew
from ensemble.methods import METHODS
from ensemble.predictions import Predictions
from tests.ensemble.made import made_members, member_probabilities, members_of
from tests.ensemble.made_library import made_library, overrides

CLASSES = ("cat", "dog", "élan")
QUICK = BlendSettings(bootstrap=0, refits=0, explain=False, greedy_steps=4)
VERSION_1 = Path(__file__).parent / "data" / "blend_version_1.json"


@pytest.fixture(scope="module")
def blend() -> Blend:
    settings = BlendSettings(bootstrap=20, methods=("convex",), calibrate_blend="none", refits=3)
    fitted = fit_blend(made_members(), CLASSES, settings)
    used = [member.config_id for member in fitted.used_members]
    assert 1 < len(used) < 4  # so that the tests below see both kinds
    return fitted


def unlabelled(folds: int = 2) -> dict[str, list[Predictions]]:
    """Predictions of `folds` models a member on 20 images without labels."""
    parts = {}
    for seed in range(folds):
        probs, _, _ = member_probabilities(seed + 50, 4, 20, 3)
        parts[seed] = members_of(probs, np.full(20, -1), np.full(20, seed))
    return {name: [parts[seed][name] for seed in range(folds)] for name in parts[0]}


def arrays_of(test: dict[str, list[Predictions]]) -> dict[str, np.ndarray]:
    return {name: np.stack([part.proba for part in parts]) for name, parts in test.items()}


def test_combining_tempers_then_averages_folds_then_members(blend: Blend) -> None:
    test = unlabelled(3)
    arrays = {name: np.stack([part.proba for part in parts]) for name, parts in test.items()}
    tempered = np.stack(
        [
            np.mean([apply_temperature(p, m.temperature) for p in arrays[m.config_id]], axis=0)
            for m in blend.members
        ]
    )
    weights = np.array([member.weight for member in blend.members])
    expected = weighted_average(tempered, weights)
    combined = blend.combine(arrays)
    assert combined.dtype == np.float64
    np.testing.assert_allclose(combined, expected, atol=1e-12)
    predicted = blend.predict(test)
    np.testing.assert_allclose(predicted.proba, combined, atol=1e-6)
    assert predicted.folds.tolist() == [-1] * 20
    assert predicted.labels.tolist() == [-1] * 20


def test_predicting_needs_only_members_with_weight(blend: Blend) -> None:
    test = unlabelled()
    needed = {member.config_id: test[member.config_id] for member in blend.used_members}
    np.testing.assert_array_equal(blend.predict(needed).proba, blend.predict(test).proba)
    name = blend.used_members[0].config_id
    for broken in (needed | {name: []}, {k: v for k, v in needed.items() if k != name}):
        with pytest.raises(BlendError, match=f"expected predictions of member {name}"):
            blend.predict(broken)
    with pytest.raises(BlendError, match="got none"):
        blend.combine({})


def test_members_are_matched_by_id_and_not_by_row(blend: Blend) -> None:
    test = unlabelled()
    expected = blend.predict(test)
    order = np.random.default_rng(0).permutation(20)
    shuffled = {
        name: [parts[0].take(order), parts[1].take(order[::-1])] for name, parts in test.items()
    }
    np.testing.assert_allclose(
        blend.predict(shuffled).aligned_to(expected.ids).proba, expected.proba, atol=1e-7
    )


def test_other_images_or_classes_are_refused_by_member(blend: Blend) -> None:
    test = unlabelled()
    name = blend.used_members[-1].config_id
    missing = test | {name: [part.take(slice(1, None)) for part in test[name]]}
    with pytest.raises(BlendError, match=rf"member {name}: .*1 missing \('image 0.jpg'\)"):
        blend.predict(missing)
    arrays = {key: np.stack([part.proba for part in parts]) for key, parts in test.items()}
    with pytest.raises(BlendError, match=f"{name}: expected 20 samples of 3 classes"):
        blend.combine(arrays | {name: arrays[name][:, :1]})
    with pytest.raises(BlendError, match="of 3 classes"):
        blend.combine({key: np.full((1, 5, 2), 0.5) for key in arrays})
    with pytest.raises(ValueError, match="NaN"):
        blend.combine({key: np.full((1, 5, 3), np.nan) for key in arrays})


def test_a_file_gives_the_same_blend_back(blend: Blend, tmp_path: Path) -> None:
    file = Location.of(tmp_path) / "run" / "blend.json"
    rules = AppliedRules("rules.csv", 3, 0.55)
    for written in (blend, replace(blend, data_fingerprint="f00d", method="greedy", rules=rules)):
        write_blend(file, written)
        assert read_blend(file) == written
    assert Blend.from_dict(blend.to_dict()) == blend
    text = file.read_text()
    assert text.startswith('{\n  "version": 2,\n  "metric": "log_loss"')
    assert text.endswith("}\n")


def test_a_blend_without_intervals_has_nulls_and_no_nan_in_its_file(tmp_path: Path) -> None:
    blend = fit_blend(made_members(), CLASSES, QUICK)
    assert blend.score.low is None
    assert blend.nested.difference.without_probe_fold.high is None
    file = Location.of(tmp_path) / "blend.json"
    write_blend(file, blend)
    assert "NaN" not in file.read_text()
    assert read_blend(file) == blend


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data | {"version": 3}, "version 2, got 3: upgrade foldblend"),
        (lambda data: {k: v for k, v in data.items() if k != "version"}, "got None"),
        (lambda data: {k: v for k, v in data.items() if k != "nested"}, "the key 'nested'"),
        (lambda data: {k: v for k, v in data.items() if k != "method"}, "method"),
        (lambda data: data | {"colour": "red"}, "colour"),
        (lambda data: data | {"members": [{}]}, "config_id"),
        (lambda data: data | {"members": []}, "expected .*members|sum of 0"),
        (lambda data: data | {"members": data["members"][1:]}, "weights with a sum of 1"),
        (
            lambda data: data | {"combination": {"kind": "mean", "weights": [1.0]}},
            "a combination with the 4 members' own weights, got 1",
        ),
        (
            lambda data: data | {"combination": {"kind": "mean", "weights": [0.25] * 4}},
            "own weights, got 0.25, 0.25, 0.25, 0.25",
        ),
        (
            lambda data: data | {"combination": {"kind": "maen", "weights": [0.25] * 4}},
            "unknown combination 'maen'.*did you mean mean",
        ),
        (
            lambda data: data | {"calibration": {"kind": "vector", "scale": [1], "bias": [0]}},
            "calibration: expected 3 classes, got 1",
        ),
        (lambda data: data | {"calibration": {"kind": "platt"}}, "got 'platt'"),
        (
            lambda data: data | {"groups": [{"classes": [0, 9], "weights": [0.25] * 4}]},
            "group .0, 9.: expected classes from 0 to 2",
        ),
        (
            lambda data: data | {"groups": [{"classes": [0, 1], "weights": [1.0]}]},
            "group .0, 1.: expected 4 weights, got 1",
        ),
        (lambda data: data | {"rules": {"source": "x"}}, "rows"),
        (lambda data: [data], "got None"),
    ],
)
def test_a_file_of_another_shape_is_refused_by_name(
    blend: Blend, tmp_path: Path, change: object, message: str
) -> None:
    file = Location.of(tmp_path) / "blend.json"
    data = json.loads(json.dumps(blend.to_dict()))
    file.write_text(json.dumps(change(data)))  # type: ignore[operator]
    with pytest.raises(BlendError, match=message) as caught:
        read_blend(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe"])
def test_a_file_that_is_no_json_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    file = Location.of(tmp_path) / "blend.json"
    file.write_bytes(data)
    with pytest.raises(BlendError, match="expected JSON") as caught:
        read_blend(file)
    assert str(caught.value).startswith(f"{file}: ")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("calibration", ["none", "temperature", "vector"])
def test_every_kind_of_blend_comes_back_from_json_and_predicts_the_same(
    method: str, calibration: str, tmp_path: Path
) -> None:
    settings = replace(
        QUICK, methods=(method,), calibrate_blend=calibration, groups=(("cat", "élan"),)
    )  # type: ignore[arg-type]
    library = made_library(rows=90, members=4)
    blend = fit_library(library, settings, rules=overrides(library, right=0.8)).blend
    assert Blend.from_dict(json.loads(json.dumps(blend.to_dict()))) == blend
    file = Location.of(tmp_path) / "blend.json"
    write_blend(file, blend)
    again = read_blend(file)
    assert again == blend
    assert isinstance(again.combination, Combination)
    assert again.calibration.kind == calibration
    assert again.rules == blend.rules
    assert len(again.groups) == (method != "best_single")
    arrays = arrays_of(unlabelled())
    np.testing.assert_array_equal(again.combine(arrays), blend.combine(arrays))


def test_a_file_of_version_1_is_read_and_predicts_as_it_did() -> None:
    data = json.loads(VERSION_1.read_text())
    assert data["version"] == 1
    blend = read_blend(Location.of(VERSION_1))
    assert blend.version == 2
    assert (blend.method, blend.data_fingerprint) == ("convex", "f00d")
    assert blend.score.value == data["nested"]["blend"]["value"]
    assert (blend.calibration.kind, blend.groups, blend.rules, blend.stages) == (
        "none",
        (),
        None,
        (),
    )
    assert isinstance(blend.members[0], BlendMember)
    assert blend.members[0].stability is None
    arrays = arrays_of(unlabelled(3))
    expected = np.zeros((20, 3))
    for member in data["members"]:  # the whole of what version 1 meant
        for fold in arrays[member["config_id"]]:
            expected += member["weight"] / 3 * apply_temperature(fold, member["temperature"])
    np.testing.assert_allclose(blend.combine(arrays), expected, atol=1e-12)
    assert Blend.from_dict(blend.to_dict()) == blend


def test_after_the_members_come_calibration_and_second_blends(blend: Blend) -> None:
    outsider = next(m for m in blend.members if m.weight == 0)
    index = blend.members.index(outsider)
    group = SecondBlend((0, 1), tuple(np.eye(4)[index].tolist()))
    calibration = Calibration("temperature", temperature=1.7)
    more = replace(blend, calibration=calibration, groups=(group,))
    arrays = arrays_of(unlabelled())
    means = {
        member.config_id: np.mean(
            [apply_temperature(p, member.temperature) for p in arrays[member.config_id]], axis=0
        )
        for member in blend.members
    }
    calibrated = apply_temperature(blend.combine(arrays), 1.7)
    expected = divide_anew(
        calibrated, [means[m.config_id] for m in blend.members], (0, 1), np.array(group.weights)
    )
    np.testing.assert_allclose(more.combine(arrays), expected, atol=1e-12)
    # A member without weight in the first blend is needed for the second.
    assert outsider in more.used_members
    assert outsider not in blend.used_members
    del arrays[outsider.config_id]
    blend.combine(arrays)
    with pytest.raises(BlendError, match=f"expected predictions of member {outsider.config_id}"):
        more.combine(arrays)


def test_members_in_any_order_of_the_mapping_predict_the_same(blend: Blend) -> None:
    test = unlabelled()
    backwards = dict(reversed(test.items()))
    np.testing.assert_allclose(
        blend.predict(backwards).aligned_to(blend.predict(test).ids).proba,
        blend.predict(test).proba,
        atol=1e-7,
    )


def test_rules_of_test_images_are_applied_with_the_trust_that_was_found(blend: Blend) -> None:
    test = unlabelled()
    library = made_library(rows=20)
    rules = overrides(library, right=1.0)  # the same ids
    before = blend.predict(test).proba
    after = replace(blend, rules=AppliedRules("x", 5, 0.4)).predict(test, rules).proba
    np.testing.assert_allclose(after, rules.apply(library.ids, before, 0.4), atol=1e-6)
    untouched = ~rules.touched(library.ids)
    np.testing.assert_array_equal(after[untouched], before[untouched])


def test_rules_that_were_never_judged_are_not_applied(blend: Blend) -> None:
    rules = overrides(made_library(rows=20), right=1.0)
    with pytest.raises(BlendError, match=r"fitted without rules.*fit it again with them"):
        blend.predict(unlabelled(), rules)


def test_without_its_rules_a_blend_has_the_scores_before_them(tmp_path: Path) -> None:
    library = made_library(3, rows=120)
    settings = replace(QUICK, bootstrap=20)
    plain = fit_library(library, settings).blend
    ruled = fit_library(library, settings, rules=overrides(library, right=0.95)).blend
    assert plain.without_rules() is plain
    assert "before_rules" not in plain.to_dict()
    assert ruled.score.value < plain.score.value
    assert ruled.in_sample < plain.in_sample
    write_blend(Location.of(tmp_path / "blend.json"), ruled)
    back = read_blend(Location.of(tmp_path / "blend.json"))
    assert back == ruled
    # The rehearsals choose among methods before the rules: all else is as without them.
    assert back.without_rules() == plain


def test_a_blend_with_rules_of_an_earlier_version_does_not_know_the_scores_before_them() -> None:
    library = made_library(3, rows=60)
    data = fit_library(library, QUICK, rules=overrides(library, right=0.95)).blend.to_dict()
    del data["before_rules"]
    old = Blend.from_dict(json.loads(json.dumps(data)))
    with pytest.raises(BlendError, match=r"before the rules of made\.csv.*fit the blend again"):
        old.without_rules()
