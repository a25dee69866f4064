from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load, save_file

from ensemble.files import Location
from search_spaces.config import BackboneConfig, LossConfig
from tests.trainables.tiny_run import TinyRun
from trainables.backbone import Recipe, build_backbone, rebuild
from trainables.weights import copy_of, load_weights, read_recipe, read_weights, save_weights


@pytest.fixture
def saved(tiny_run: TinyRun, tmp_path: Path) -> tuple[Location, torch.nn.Module]:
    backbone = build_backbone(BackboneConfig(name="test_resnet"), 3, 32)
    location = Location.of(tmp_path / "model.safetensors")
    model = backbone.model.to(memory_format=torch.channels_last)
    save_weights(location, model, backbone.recipe, tiny_run.task(1))
    return location, model


def test_weights_come_back_as_they_were(saved: tuple[Location, torch.nn.Module]) -> None:
    location, model = saved
    other = build_backbone(BackboneConfig(name="test_resnet"), 3, 32).model
    load_weights(location, other)
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_the_file_says_what_it_is(
    saved: tuple[Location, torch.nn.Module], tiny_run: TinyRun
) -> None:
    location, model = saved
    with safe_open(location.uri, framework="pt") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(model.state_dict())
    assert metadata["format"] == "pt"
    assert metadata["fold"] == "1"
    assert metadata["config_id"] == tiny_run.task().config_id
    assert metadata["backbone"] == "test_resnet.r160_in1k"
    assert read_recipe(location) == build_backbone(BackboneConfig(name="test_resnet"), 3, 32).recipe


def test_the_same_weights_give_the_same_bytes(
    saved: tuple[Location, torch.nn.Module], tiny_run: TinyRun, tmp_path: Path
) -> None:
    location, model = saved
    for number in range(5):
        again = Location.of(tmp_path / f"again{number}.safetensors")
        save_weights(again, model, read_recipe(location), tiny_run.task(1))
        assert again.read_bytes() == location.read_bytes()
    assert len(load_header(location)) % 8 == 0  # tensors are aligned


def load_header(location: Location) -> bytes:
    data = location.read_bytes()
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def test_stock_timm_loads_the_file(saved: tuple[Location, torch.nn.Module]) -> None:
    location, model = saved
    other = timm.create_model("test_resnet", num_classes=3, checkpoint_path=location.uri)
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(other.eval()(images), model.eval()(images))


def test_a_composed_model_comes_back_from_its_file_alone(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = BackboneConfig(name="test_resnet", second="test_vit")
    built = build_backbone(config, 3, 32, loss=LossConfig(name="adaface"))
    location = Location.of(tmp_path / "both.safetensors")
    save_weights(location, built.model, built.recipe, tiny_run.task(1))
    recipe, state = read_weights(location)
    assert recipe == built.recipe == read_recipe(location)
    assert set(state) == set(built.model.state_dict())
    again = rebuild(recipe, 3)
    load_weights(location, again)
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again.eval()(images), built.model.eval()(images))


def test_another_models_weights_are_refused(saved: tuple[Location, torch.nn.Module]) -> None:
    location, _ = saved
    for name, classes in (("test_vit", 3), ("test_resnet", 4)):
        other = build_backbone(BackboneConfig(name=name), classes, 32).model
        with pytest.raises(ValueError, match="these are another model's weights") as caught:
            load_weights(location, other)
        assert "\n" not in str(caught.value)


def test_a_file_cut_off_is_one_line(saved: tuple[Location, torch.nn.Module]) -> None:
    location, model = saved
    whole = location.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:20], b"", b"words"):
        location.write_bytes(content)
        with pytest.raises(ValueError, match="not a whole safetensors file") as caught:
            load_weights(location, model)
        assert "\n" not in str(caught.value)


def test_a_file_from_elsewhere_does_not_say_its_model(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="does not say which model it is for"):
        read_recipe(Location.of(path))
    path.write_bytes(b"words")
    with pytest.raises(ValueError, match="does not say which model it is for"):
        read_recipe(Location.of(path))


def test_a_copy_does_not_follow_the_model() -> None:
    layer = torch.nn.Linear(2, 2)
    copy = copy_of(layer)
    before = copy["weight"].clone()
    with torch.no_grad():
        layer.weight.add_(1.0)
    assert torch.equal(copy["weight"], before)
    assert not copy["weight"].requires_grad


def test_tied_tensors_are_saved_twice_rather_than_refused(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    first = torch.nn.Linear(2, 2, bias=False)
    second = torch.nn.Linear(2, 2, bias=False)
    second.weight = first.weight
    location = Location.of(tmp_path / "tied.safetensors")
    save_weights(location, torch.nn.Sequential(first, second), Recipe("tied"), tiny_run.task())
    assert set(load(location.read_bytes())) == {"0.weight", "1.weight"}
