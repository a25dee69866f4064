from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from search_spaces.config import BackboneConfig, PreprocessConfig
from search_spaces.space import Study, load_study
from tests.conftest import MakeTinyImages, TinyImages
from trainables import backbone as backbone_module
from trainables.backbone import BackboneError
from trainables.errors import DataError, DataProblems
from trainables.optim import OptimizerError
from tuner import prepare as module
from tuner.errors import UserError
from tuner.prepare import Prepared, prepare, refuse_existing, run_directory_of, versions
from tuner.run_directory import RunDirectory


@pytest.fixture
def images(tiny_images: MakeTinyImages) -> TinyImages:
    return tiny_images(classes=2, per_class=4)


def study_of(images: TinyImages, *more: str) -> Study:
    return load_study(
        [
            *("experiment=scratch", f"storage={images.root}", "name=run", "data=csv"),
            *(f"data.path={images.csv}", f"data.images={images.images}", "folds.k=2"),
            *("train.image_size=32", "backbone=test_resnet", *more),
        ]
    )


def quiet(name: str) -> Callable[[int, int], None]:
    return lambda done, total: None


def prepared(study: Study) -> Prepared:
    return prepare(study, None, run_directory_of(study.run), quiet)


def folds_of(run: RunDirectory) -> pd.DataFrame:
    return pd.read_parquet(run.folds.local_path)


def test_a_run_lies_under_its_storage_by_its_name(images: TinyImages) -> None:
    run = run_directory_of(study_of(images).run)
    assert run.root.local_path == images.root / "run"


def test_a_prepared_run_has_folds_and_decoded_images(images: TinyImages) -> None:
    ready = prepared(study_of(images))
    folds = folds_of(ready.directory)
    assert sorted(folds["id"]) == sorted(images.ids)
    assert folds["fold"].value_counts().to_dict() == {0: 4, 1: 4}
    assert ready.data.n_train == 8
    assert ready.data.test is None
    assert not ready.directory.test_table.exists()
    assert not ready.directory.dropped.exists()


def test_run_yaml_holds_all_that_a_resume_needs(images: TinyImages) -> None:
    study = study_of(images, "train.epochs=choice(2,5)", f"data.test_images={images.images}")
    run = prepared(study).directory
    content = yaml.safe_load(run.run_yaml.read_text())
    assert content["config"] == study.run.model_dump(mode="json")
    assert content["overrides"] == list(study.overrides)
    assert content["config_dir"] is None
    assert content["space"]["fingerprint"] == study.space.fingerprint()
    assert content["space"]["max_epochs"] == 5
    searched = {row["key"]: row["range"] for row in content["space"]["searched"]}
    assert searched["train.epochs"] == "2 | 5"
    assert set(searched) == {row.key for row in study.space.rows()}
    data = content["data"]
    assert data["classes"] == list(images.classes)
    assert (data["n_train"], data["n_test"], data["n_dropped"]) == (8, 8, 0)
    assert data["cache_size"] == 32
    assert data["submission"] == {
        "columns": ["id", "label"],
        "kind": "label",
        "id_column": "id",
    }
    assert content["notes"] == []
    assert content["versions"] == versions()
    assert set(content["versions"]) == {"python", *module.PACKAGES}


def test_an_existing_run_is_refused_with_the_way_to_go_on(images: TinyImages) -> None:
    study = study_of(images)
    run = prepared(study).directory
    before = run.run_yaml.read_text()
    with pytest.raises(UserError, match=r"exists; go on with it by `foldblend search --resume"):
        prepared(study)
    assert run.run_yaml.read_text() == before


def test_the_command_to_go_on_with_a_run_is_quoted_for_a_shell(tmp_path: Path) -> None:
    run = RunDirectory.of(str(tmp_path / "my run"))
    run.run_yaml.write_text("version: 1")
    with pytest.raises(UserError) as refused:
        refuse_existing(run)
    assert f"`foldblend search --resume '{run.root}'`, or" in str(refused.value)


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"not a run directory \(holds thesis\.tex\)"):
        refuse_existing(RunDirectory.of(str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_new_an_empty_and_a_locked_folder_are_fine(tmp_path: Path) -> None:
    refuse_existing(RunDirectory.of(str(tmp_path / "new")))
    refuse_existing(RunDirectory.of(str(tmp_path)))
    (tmp_path / ".lock").write_text("1")
    refuse_existing(RunDirectory.of(str(tmp_path)))


def test_a_start_that_was_cut_off_is_prepared_again_with_the_same_folds(
    images: TinyImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*_: object) -> str:
        raise KeyboardInterrupt

    study = study_of(images, f"data.test_images={images.images}")
    run = run_directory_of(study.run)
    monkeypatch.setattr(module, "_run_yaml", power_cut)
    with pytest.raises(KeyboardInterrupt):
        prepared(study)
    monkeypatch.undo()
    # run.yaml comes after everything else.
    assert sorted(path.name for path in run.root.local_path.iterdir()) == [
        "folds.parquet",
        "test.parquet",
    ]
    first = folds_of(run)
    prepared(study)
    pd.testing.assert_frame_equal(folds_of(run), first)


def test_what_a_cut_off_start_left_does_not_slip_into_the_next_one(images: TinyImages) -> None:
    study = study_of(images)
    run = run_directory_of(study.run)
    for place in (run.test_table, run.dropped):
        place.write_text("of a start with other settings")
    ready = prepared(study)
    assert ready.data.test is None
    assert not run.test_table.exists()
    assert not run.dropped.exists()


def test_dropped_images_are_listed_with_what_is_wrong(images: TinyImages) -> None:
    (images.images / images.ids[0]).write_bytes(b"")
    (images.images / images.ids[5]).write_bytes(b"no image, at all")
    run = prepared(study_of(images, "data.on_bad_image=drop")).directory
    with run.dropped.local_path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["kind", "where", "detail"]
    assert [row[0] for row in rows] == ["empty image", "unreadable image"]
    assert [Path(row[1]).name for row in rows] == [images.ids[0], images.ids[5]]
    assert len(folds_of(run)) == 6
    assert yaml.safe_load(run.run_yaml.read_text())["data"]["n_dropped"] == 2


def test_bad_images_leave_no_run_behind(images: TinyImages) -> None:
    (images.images / images.ids[0]).write_bytes(b"")
    study = study_of(images)
    with pytest.raises(DataProblems):
        prepared(study)
    assert not run_directory_of(study.run).root.exists()


def test_names_are_checked_before_the_data(images: TinyImages) -> None:
    missing = "data.path=nowhere.csv"
    with pytest.raises(BackboneError, match="test_resnett"):
        prepared(study_of(images, "backbone.name=test_resnett", missing))
    with pytest.raises(OptimizerError, match="adamww"):
        prepared(study_of(images, "optimizer.name=adamww", missing))
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        prepared(study_of(images, missing))


def test_a_bad_name_anywhere_in_the_space_is_found(images: TinyImages) -> None:
    with pytest.raises(OptimizerError, match="adamww"):
        prepared(study_of(images, "optimizer.name=choice(adamw,adamww)"))


def test_the_data_are_found_before_weights_are_asked_for_and_weights_before_decoding(
    images: TinyImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_reach(backbone: BackboneConfig) -> None:
        raise BackboneError(f"{backbone.name}: the hub is out of reach")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("images were decoded before the weights were found")

    monkeypatch.setattr(module, "check_backbone", out_of_reach)
    monkeypatch.setattr(module, "check_data", never)
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        prepared(study_of(images, "backbone.pretrained=true", "data.path=nowhere.csv"))
    with pytest.raises(BackboneError, match="out of reach"):
        prepared(study_of(images, "backbone.pretrained=true"))


def test_own_weights_and_fresh_models_need_no_hub(
    images: TinyImages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        backbone_module, "check_hub_weights", lambda name, *_, **__: asked.append(name)
    )
    (tmp_path / "mine.safetensors").write_bytes(b"not looked into")
    module.check_weights(study_of(images, "backbone.pretrained=false").space)
    own = ("backbone.pretrained=true", f"backbone.weights={tmp_path}/mine.safetensors")
    module.check_weights(study_of(images, *own).space)
    assert asked == []
    module.check_weights(study_of(images, "backbone.pretrained=true").space)
    assert [name.split(".")[0] for name in asked] == ["test_resnet"]


def test_images_are_decoded_while_they_are_checked(images: TinyImages) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def steps(name: str) -> Callable[[int, int], None]:
        return lambda done, total: seen.setdefault(name, []).append((done, total))

    study = study_of(images)
    prepare(study, None, run_directory_of(study.run), steps)
    assert list(seen) == ["checking images"]
    assert all(calls[-1] == (8, 8) for calls in seen.values())


def test_further_preprocessing_is_decoded_in_sight_once_for_pixels_that_differ(
    images: TinyImages,
) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def steps(name: str) -> Callable[[int, int], None]:
        return lambda done, total: seen.setdefault(name, []).append((done, total))

    study = study_of(
        images,
        *("preprocess=choice(none,grey)", "preprocess.resize=choice(squash,letterbox)"),
    )
    data = prepare(study, None, run_directory_of(study.run), steps).data
    assert list(seen) == ["checking images", "decoding images (grey)"]
    assert seen["decoding images (grey)"] == [(done, 8) for done in range(1, 9)]
    pixels = data.cache_of(PreprocessConfig(grey=True))[range(8)]
    assert (pixels[..., 0] == pixels[..., 1]).all()
    data.cache_of(PreprocessConfig(grey=True), steps("again"))
    assert "again" not in seen
