from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble.average import weighted_average
from ensemble.blend import BlendSettings, fit_blend
from ensemble.blend_value import Blend, read_blend, write_blend
from ensemble.calibration import apply_temperature
from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.predictions import Predictions
from tests.ensemble.made import made_members, member_probabilities, members_of

CLASSES = ("cat", "dog", "élan")


@pytest.fixture(scope="module")
def blend() -> Blend:
    fitted = fit_blend(made_members(), CLASSES, BlendSettings(bootstrap=20, methods=("convex",)))
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
        with pytest.raises(BlendError, match=f"expected predictions of configuration {name}"):
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
    with pytest.raises(BlendError, match=rf"configuration {name}: .*1 missing \('image 0.jpg'\)"):
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
    for written in (blend, replace(blend, data_fingerprint="f00d", method="greedy")):
        write_blend(file, written)
        assert read_blend(file) == written
    assert Blend.from_dict(blend.to_dict()) == blend
    text = file.read_text()
    assert text.startswith('{\n  "version": 1,\n  "metric": "log_loss"')
    assert text.endswith("}\n")


def test_a_blend_without_intervals_has_nulls_and_no_nan_in_its_file(tmp_path: Path) -> None:
    blend = fit_blend(made_members(), CLASSES, BlendSettings(bootstrap=0))
    assert blend.score.low is None
    assert blend.nested.difference.without_probe_fold.high is None
    file = Location.of(tmp_path) / "blend.json"
    write_blend(file, blend)
    assert "NaN" not in file.read_text()
    assert read_blend(file) == blend


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data | {"version": 2}, "version 1, got 2: upgrade foldblend"),
        (lambda data: {k: v for k, v in data.items() if k != "version"}, "got None"),
        (lambda data: {k: v for k, v in data.items() if k != "nested"}, "the key 'nested'"),
        (lambda data: {k: v for k, v in data.items() if k != "method"}, "method"),
        (lambda data: data | {"colour": "red"}, "colour"),
        (lambda data: data | {"members": [{}]}, "config_id"),
        (lambda data: data | {"members": []}, "sum of 0"),
        (lambda data: data | {"members": data["members"][1:]}, "weights with a sum of 1"),
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
