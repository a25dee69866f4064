from __future__ import annotations

import builtins
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import torch

from ensemble.blend import BlendSettings
from ensemble.blend_value import read_blend
from ensemble.files import Location
from ensemble.rules import Rules
from ensemble.run import blend_run, read_fold_table
from tests.trainables.made_models import closed_network
from tests.trainables.tiny_blend import BlendedRun
from tests.trainables.tiny_run import TinyRun
from trainables import bundle as bundle_module
from trainables.backbone import BackboneError
from trainables.bundle import Bundle, bundle_files, export_bundle, load_model, read_bundle
from trainables.errors import DataError


def edit(folder: Path, **changes: Any) -> dict[str, Any]:
    path = folder / "ensemble.json"
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(values), encoding="utf-8")
    return values


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_bundle_holds_the_members_with_weight_and_no_other(
    blended_run: BlendedRun, exported: Path
) -> None:
    used = [member.config_id for member in blended_run.members[:2]]
    files = sorted(str(path.relative_to(exported)) for path in exported.rglob("*.*"))
    names = ("config.json", "model.safetensors")
    assert files == sorted(
        ["ensemble.json"]
        + [f"members/{one}/fold={k}/{name}" for one in used for k in range(3) for name in names]
    )
    bundle = read_bundle(exported)
    assert [one.config_id for one in bundle.members] == used
    assert bundle.size_bytes(exported) == sum((exported / name).stat().st_size for name in files)


def test_the_description_tells_everything_but_the_weights(
    blended_run: BlendedRun, exported: Path
) -> None:
    bundle = read_bundle(exported)
    assert bundle.classes == ("class_00", "class_01", "class_02")
    assert bundle.blend == read_blend(blended_run.run.paths.blend)
    assert bundle.submission == blended_run.run.data.record.submission
    resnet, vit = bundle.members
    assert (resnet.cache_size, resnet.image_size) == (32, 32)
    assert (vit.cache_size, vit.image_size) == (32, 64)
    assert (resnet.configuration, vit.configuration) == blended_run.members[:2]
    assert vit.recipe.arguments == {"img_size": 64}
    assert vit.recipe.normalisation.mean == (0.5, 0.5, 0.5)
    assert bundle.provenance["run"] == str(blended_run.run.root)
    assert bundle.provenance["data_fingerprint"] == blended_run.run.data.record.data_fingerprint
    assert bundle.provenance["n_train"] == 24
    assert bundle.provenance["versions"]["timm"] == timm.__version__
    assert "experiment=scratch" in bundle.provenance["overrides"]


def test_the_files_of_a_bundle_are_those_of_an_export_and_the_weights_are_the_runs_own(
    blended_run: BlendedRun, exported: Path
) -> None:
    bundle, files = bundle_files(str(blended_run.run.root))
    names = [file.name for file in files]
    assert sorted(names) == sorted(
        str(path.relative_to(exported)) for path in exported.rglob("*.*") if path.is_file()
    )
    assert names[-1] == "ensemble.json"
    assert bundle.members == read_bundle(exported).members
    for file in files[:-1]:
        content = file.content
        own = content if isinstance(content, bytes) else content.read_bytes()
        assert (exported / file.name).read_bytes() == own
        assert isinstance(content, Location) == file.name.endswith("model.safetensors")


def blended_again(
    blended_run: BlendedRun, folder: Path, *, rules: Rules | None = None, members: int = 3
) -> Path:
    run = Path(shutil.copytree(blended_run.run.root, folder))
    settings = BlendSettings(bootstrap=20, methods=("equal",), refits=0, explain=False)
    names = [member.config_id for member in blended_run.members[:members]]
    blend_run(Location.of(run), settings, n_folds=3, config_ids=names, rules=rules)
    return run


def rules_of_every_row(run: Path) -> Rules:
    table = read_fold_table(Location.of(run / "folds.parquet"))
    targets = np.eye(3)[table.labels]
    everywhere = np.ones_like(targets, dtype=bool)
    strength = np.ones(len(targets))
    return Rules("words.csv", table.ids, targets, everywhere, strength, fixed=False)


def test_rules_are_no_part_of_a_bundle_and_neither_is_their_gain(
    blended_run: BlendedRun, tmp_path: Path
) -> None:
    rules = rules_of_every_row(Path(blended_run.run.root))
    run = blended_again(blended_run, tmp_path / "run", rules=rules)
    fitted = read_blend(Location.of(run / "blend.json"))
    assert fitted.rules is not None
    assert fitted.rules.trust == 1.0
    export_bundle(str(run), tmp_path / "bundle")
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.blend == fitted.without_rules()
    assert bundle.blend.score.value > fitted.score.value == pytest.approx(0.0, abs=1e-6)
    assert bundle.blend.score.value == fitted.stages[-2].nested
    (note,) = bundle.provenance["notes"]
    assert note.startswith("the rules of words.csv are not part of a bundle: its scores are those")


def test_rules_of_which_the_gain_is_not_known_are_told_to_be_fitted_again(
    blended_run: BlendedRun, tmp_path: Path
) -> None:
    rules = rules_of_every_row(Path(blended_run.run.root))
    run = blended_again(blended_run, tmp_path / "run", rules=rules)
    values = json.loads((run / "blend.json").read_text())
    del values["before_rules"]  # as an earlier version wrote it
    (run / "blend.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"before the rules of words\.csv.*--rules") as caught:
        export_bundle(str(run), tmp_path / "bundle")
    one_line(caught)


def test_members_that_the_blend_has_not_seen_are_counted(
    blended_run: BlendedRun, exported: Path, tmp_path: Path
) -> None:
    assert read_bundle(exported).provenance["notes"] == []
    run = blended_again(blended_run, tmp_path / "run", members=2)
    (note,) = bundle_files(str(run))[0].provenance["notes"]
    third = blended_run.members[2].config_id
    assert note.startswith(f"complete members that the blend has not seen: 1 (first {third})")


def test_export_returns_what_reading_gives(blended_run: BlendedRun, tmp_path: Path) -> None:
    written = export_bundle(str(blended_run.run.root), tmp_path / "deep" / "er" / "bundle")
    assert read_bundle(tmp_path / "deep" / "er" / "bundle") == written


@pytest.mark.parametrize("member", [0, 1])
@pytest.mark.parametrize("fold", range(3))
def test_stock_timm_loads_every_model(exported: Path, member: int, fold: int) -> None:
    """From the folder, and from the weights file: both give the logits that our loader gives."""
    bundle = read_bundle(exported)
    one = bundle.members[member]
    images = torch.rand(2, 3, one.image_size, one.image_size)
    folder = exported / one.folds[fold]
    models = [
        load_model(bundle, one, exported, one.folds[fold]),
        timm.create_model(f"local-dir:{folder}", pretrained=True),
        timm.create_model(
            one.recipe.architecture,
            num_classes=3,
            checkpoint_path=str(folder / "model.safetensors"),
            **one.recipe.arguments,
        ),
    ]
    with torch.inference_mode():
        ours, from_folder, from_file = (model.eval()(images) for model in models)
    assert ours.shape == (2, 3)
    torch.testing.assert_close(from_folder, ours)
    torch.testing.assert_close(from_file, ours)


def test_timm_learns_the_input_from_the_folder(exported: Path) -> None:
    vit = read_bundle(exported).members[1]
    model = timm.create_model(f"local-dir:{exported / vit.folds[0]}", pretrained=True)
    data = timm.data.resolve_model_data_config(model)
    assert tuple(data["input_size"]) == (3, 64, 64)
    assert tuple(data["mean"]) == vit.recipe.normalisation.mean
    assert model.pretrained_cfg["label_names"] == ["class_00", "class_01", "class_02"]


def test_a_folder_is_a_start_for_other_classes_too(exported: Path) -> None:
    resnet = read_bundle(exported).members[0]
    folder = exported / resnet.folds[0]
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=9)
    with torch.inference_mode():
        assert model.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 9)


def test_loading_unpickles_nothing_and_asks_nobody(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed_network(monkeypatch, tmp_path / "hub")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was unpickled")

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
        (builtins, "eval"),
    ):
        monkeypatch.setattr(module, name, refuse)
    bundle = read_bundle(exported)
    for member in bundle.members:
        for fold in member.folds:
            assert not load_model(bundle, member, exported, fold).training


def test_a_bundle_does_not_need_the_run_any_more(blended_run: BlendedRun, tmp_path: Path) -> None:
    run = Path(shutil.copytree(blended_run.run.root, tmp_path / "run"))
    export_bundle(str(run), tmp_path / "bundle")
    shutil.rmtree(run)
    bundle = read_bundle(tmp_path / "bundle")
    for member in bundle.members:
        load_model(bundle, member, tmp_path / "bundle", member.folds[0])


def test_a_folder_that_exists_is_left_alone(blended_run: BlendedRun, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="mine: exists already; choose another folder") as caught:
        export_bundle(str(blended_run.run.root), tmp_path / "mine")
    one_line(caught)
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def test_a_run_without_a_blend_is_told_to_blend(tiny_run: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"blend\.json: not there yet; run `foldblend blend"):
        export_bundle(str(tiny_run.root), tmp_path / "bundle")
    with pytest.raises(DataError, match="not a run directory"):
        export_bundle(str(tmp_path), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_member_without_all_its_weights_is_not_exported(
    blended_run: BlendedRun, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(blended_run.run.root, tmp_path / "run"))
    lost = run / "weights" / blended_run.members[1].config_id / "fold=2" / "model.safetensors"
    lost.unlink()
    with pytest.raises(DataError, match=r"fold=2/model\.safetensors: missing") as caught:
        export_bundle(str(run), tmp_path / "bundle")
    one_line(caught)
    assert os.listdir(tmp_path) == ["run"]


def test_folds_of_different_models_are_not_exported(
    blended_run: BlendedRun, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(blended_run.run.root, tmp_path / "run"))
    resnet, vit, _ = (run / "weights" / one.config_id for one in blended_run.members)
    shutil.copy(vit / "fold=1" / "model.safetensors", resnet / "fold=1" / "model.safetensors")
    with pytest.raises(DataError, match="its folds hold different models"):
        export_bundle(str(run), tmp_path / "bundle")


@pytest.mark.parametrize("files", [1, 5, 12])
def test_an_interrupted_export_leaves_no_folder(
    blended_run: BlendedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    real, written = Location.write_bytes, []

    def write(location: Location, data: bytes) -> None:
        written.append(location)
        if len(written) == files:
            raise KeyboardInterrupt
        real(location, data)

    with monkeypatch.context() as patch:
        patch.setattr(Location, "write_bytes", write)
        with pytest.raises(KeyboardInterrupt):
            export_bundle(str(blended_run.run.root), tmp_path / "bundle")
    assert os.listdir(tmp_path) == []
    assert len(written) == files


def test_what_a_killed_export_left_does_not_enter_the_next(
    blended_run: BlendedRun, tmp_path: Path
) -> None:
    (tmp_path / ".bundle.part" / "members").mkdir(parents=True)
    (tmp_path / ".bundle.part" / "members" / "half.safetensors").write_bytes(b"half")
    export_bundle(str(blended_run.run.root), tmp_path / "bundle")
    assert os.listdir(tmp_path) == ["bundle"]
    assert not (tmp_path / "bundle" / "members" / "half.safetensors").exists()


def test_a_folder_that_is_no_bundle_is_told_so(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match=r"not a bundle \(it has no ensemble\.json\)"):
            read_bundle(folder)


def test_a_newer_bundle_asks_for_an_upgrade(bundle_folder: Path) -> None:
    edit(bundle_folder, version=2)
    with pytest.raises(DataError, match="version 2, this foldblend reads 1; upgrade") as caught:
        read_bundle(bundle_folder)
    one_line(caught)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null", "{}", '{"version": 1}'])
def test_a_damaged_description_is_one_line(bundle_folder: Path, content: str) -> None:
    (bundle_folder / "ensemble.json").write_text(content)
    with pytest.raises(DataError, match=r"ensemble\.json: cannot be read as a bundle") as caught:
        read_bundle(bundle_folder)
    assert "export the run again" in one_line(caught)


def test_a_description_with_strange_values_is_one_line(bundle_folder: Path) -> None:
    members = edit(bundle_folder)["members"]
    for key, value in (
        ("configuration", {}),
        ("model", {"architecture": "test_vit"}),
        ("preprocessing", {"cache_size": "large", "image_size": 3}),
    ):
        edit(bundle_folder, members=[members[0] | {key: value}])
        with pytest.raises(DataError, match="cannot be read as a bundle") as caught:
            read_bundle(bundle_folder)
        one_line(caught)


@pytest.mark.parametrize("place", ["../../elsewhere", "/etc", "members/../../x"])
def test_a_bundle_names_nothing_outside_of_itself(bundle_folder: Path, place: str) -> None:
    members = edit(bundle_folder)["members"]
    edit(bundle_folder, members=[members[0] | {"folds": [place]}])
    with pytest.raises(DataError, match="is not in the bundle"):
        read_bundle(bundle_folder)


def test_missing_or_damaged_weights_are_one_line(bundle_folder: Path) -> None:
    bundle = read_bundle(bundle_folder)
    member = bundle.members[0]
    weights = bundle_folder / member.folds[1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a whole safetensors file") as damaged:
        load_model(bundle, member, bundle_folder, member.folds[1])
    one_line(damaged)
    weights.unlink()
    with pytest.raises(DataError, match=r"fold=1/model\.safetensors: missing") as missing:
        load_model(bundle, member, bundle_folder, member.folds[1])
    one_line(missing)


def test_a_model_that_is_not_timms_own_is_refused(bundle_folder: Path) -> None:
    """A stranger's bundle cannot make us ask the hub for a stranger's model."""
    members = edit(bundle_folder)["members"]
    members[0]["model"]["architecture"] = "hf_hub:stranger/model"
    edit(bundle_folder, members=members)
    bundle = read_bundle(bundle_folder)
    with pytest.raises(BackboneError, match="no such model"):
        load_model(bundle, bundle.members[0], bundle_folder, bundle.members[0].folds[0])


def test_a_bundle_without_a_submission_form_is_read(bundle_folder: Path) -> None:
    edit(bundle_folder, submission=None)
    assert read_bundle(bundle_folder).submission is None


def test_class_names_survive_in_any_script(bundle_folder: Path) -> None:
    names = ["élan", "犬", 'a "quoted" one']
    edit(bundle_folder, classes=names)
    bundle: Bundle = read_bundle(bundle_folder)
    assert list(bundle.classes) == names
    text = json.dumps(bundle_module._to_dict(bundle), ensure_ascii=False)
    assert bundle_module._from_dict(json.loads(text)) == bundle


def test_the_blend_of_the_bundle_is_the_blend_of_the_run(
    blended_run: BlendedRun, exported: Path
) -> None:
    used = [one.config_id for one in blended_run.blend.used_members]
    probs = {
        name: np.stack([part.proba for part in blended_run.run.store.read_test(name)])
        for name in used
    }
    np.testing.assert_allclose(
        read_bundle(exported).blend.combine(probs), blended_run.stored_blend(), atol=1e-6
    )
