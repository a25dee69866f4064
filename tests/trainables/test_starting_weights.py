"""The weights of one fold run start no search, wherever they were copied to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from ensemble.files import Location
from search_spaces.config import BackboneConfig
from tests.trainables.made_models import closed_network, made_state, write_hub_cache
from tests.trainables.test_earlier_run import write_fold, write_run
from trainables.backbone import BackboneError, build_backbone, check_backbone
from trainables.recipe import Recipe
from trainables.run_paths import RunPaths
from trainables.starting_weights import refuse_weights_of_a_fold
from trainables.weights import fold_run_of, read_recipe

NAME = "test_resnet"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """What fold 1 of the configuration c1 of RUN left."""
    run = write_run(tmp_path / "RUN")
    built = build_backbone(BackboneConfig(name=NAME), 2, 32)
    write_fold(run, 1, built.model, built.recipe)
    return RunPaths(run).weights("c1", 1).local_path


@pytest.fixture
def member(bundle_folder: Path) -> Path:
    """The folder of one fold's model in a bundle."""
    folders = bundle_folder.glob("members/*/fold=0")
    return next(one for one in folders if _recipe(one).architecture == NAME)


def _recipe(folder: Path) -> Recipe:
    return read_recipe(Location.of(folder / "model.safetensors"))


def refused(config: BackboneConfig) -> str:
    """What is said before anything is decoded, and in a fold run too."""
    said = []
    for attempt in (lambda: check_backbone(config), lambda: build_backbone(config, 3, 32)):
        with pytest.raises(BackboneError, match="which have seen labels of the other") as caught:
            attempt()
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    return said[0]


def test_a_file_of_a_bundle_is_refused_and_from_run_is_the_way(member: Path) -> None:
    file = member / "model.safetensors"
    said = refused(BackboneConfig(name=NAME, weights=str(file)))
    assert said.startswith(f"backbone.weights={file}: ")
    assert f"write backbone.from_run=RUN/weights/{member.parent.name}, then each fold" in said


def test_a_folder_of_a_bundle_is_refused_where_its_weights_would_be_loaded(member: Path) -> None:
    said = refused(BackboneConfig(name=f"local-dir:{member}", pretrained=True))
    assert said.startswith(f"backbone.name=local-dir:{member}: model.safetensors has the weights")
    fresh = BackboneConfig(name=f"local-dir:{member}")  # the architecture knows no label
    check_backbone(fresh)
    build_backbone(fresh, 3, 32)


def test_a_copy_under_another_name_is_refused_in_a_folder_too(member: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    shutil.copytree(member, made)
    (made / "model.safetensors").rename(made / "mine.safetensors")
    refused(BackboneConfig(name=f"local-dir:{made}", pretrained=True))
    (made / "mine.safetensors").rename(made / f"{NAME}.safetensors")
    refused(BackboneConfig(name=NAME, weights=str(made)))


def test_a_copy_on_the_hub_is_refused(
    member: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed_network(monkeypatch, tmp_path / "hub")
    files = {path.name: path.read_bytes() for path in member.iterdir()}
    write_hub_cache(tmp_path / "hub", "me/mine", files)
    refused(BackboneConfig(name="hf_hub:me/mine", pretrained=True))


def test_the_second_backbone_is_looked_at_as_well(member: Path) -> None:
    file = str(member / "model.safetensors")
    config = BackboneConfig(name=NAME, second=NAME, second_weights=file)
    said = refused(config)
    assert said.startswith(f"backbone.second_weights={file}: ")
    assert "write backbone.second_from_run=" in said


def test_in_a_run_the_folder_to_write_is_told_and_a_checkpoint_is_no_way_round(
    weights: Path,
) -> None:
    run = weights.parents[3]
    checkpoint = run / "checkpoints" / "c1" / "fold=1" / "last.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    for file in (weights, checkpoint):
        with pytest.raises(BackboneError, match=f"write way={run}/weights/c1, then each fold"):
            refuse_weights_of_a_fold(file, "key=value", "way")


def test_weights_from_elsewhere_and_those_without_the_header_pass(
    weights: Path, tmp_path: Path
) -> None:
    save_file(made_state(NAME, 2), tmp_path / "other.safetensors")
    save_file(load_file(weights), tmp_path / "stripped.safetensors", {"format": "pt"})
    (tmp_path / "words.safetensors").write_text("words")
    for name in ("other.safetensors", "stripped.safetensors", "words.safetensors", "lost.pth"):
        refuse_weights_of_a_fold(tmp_path / name, "key=value", "way")
    assert fold_run_of(Location.of(weights)) == ("c1", "1")
    assert fold_run_of(Location.of(tmp_path / "other.safetensors")) is None
    config = BackboneConfig(name=NAME, weights=str(tmp_path / "stripped.safetensors"))
    check_backbone(config)
    build_backbone(config, 2, 32)
