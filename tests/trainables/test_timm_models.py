from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.trainables.made_models import closed_network, made_state, write_hub_cache
from trainables.recipe import BackboneError, Part
from trainables.timm_models import (
    SECOND,
    Earlier,
    Wanted,
    build_timm_model,
    check_backbone_name,
    check_hub_weights,
    classifier_names,
    rebuild_part,
    weights_file,
)

TINY = ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_byobnet"]


@pytest.mark.parametrize("name", TINY)
def test_without_classes_a_model_answers_with_features(name: str) -> None:
    model, part = build_timm_model(Wanted(name, 0, 32))
    assert part.architecture == name
    features = model.eval()(torch.rand(2, 3, 32, 32))
    assert features.shape == (2, model.head_hidden_size)


@pytest.mark.parametrize("name", TINY)
def test_weights_without_use_for_their_classifier_are_loaded_without_it(name: str) -> None:
    size = 160  # the size of the made weights: nothing is resized
    state = made_state(name, 7)
    model, _ = build_timm_model(Wanted(name, 0, size, earlier=Earlier(state, "there")))
    own = model.state_dict()
    assert set(own) == {key for key in state if key.rpartition(".")[0] not in _heads(name)}
    assert all(torch.equal(own[key], state[key]) for key in own)


def _heads(name: str) -> tuple[str, ...]:
    return classifier_names(timm.create_model(name))


def test_the_hubs_weights_make_features_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save

    closed_network(monkeypatch, tmp_path)
    state = made_state("test_resnet")
    write_hub_cache(tmp_path, "timm/test_resnet.r160_in1k", {"model.safetensors": save(state)})
    model, _ = build_timm_model(Wanted("test_resnet", 0, 32, pretrained=True))
    own = model.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in own)


def test_errors_of_the_second_model_name_its_own_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed_network(monkeypatch, tmp_path)
    with pytest.raises(BackboneError, match=r"backbone.second=resnet_18: .*no such model"):
        check_backbone_name("resnet_18", key=SECOND)
    with pytest.raises(BackboneError, match=r"backbone.second=.*backbone.second_weights=FILE"):
        check_hub_weights("test_resnet", key=SECOND)
    wanted = Wanted("test_resnet", 0, 32, weights=str(tmp_path / "none.pth"), key=SECOND)
    with pytest.raises(BackboneError, match=r"backbone.second_weights=.*none.pth: no such file"):
        build_timm_model(wanted)
    save_file(made_state("test_vit"), tmp_path / "vit.safetensors")
    wanted = Wanted("test_resnet", 0, 32, weights=str(tmp_path / "vit.safetensors"), key=SECOND)
    with pytest.raises(BackboneError, match=r"second_weights=.*does not fit test_resnet"):
        build_timm_model(wanted)


def test_a_model_finds_its_file_in_a_folder(tmp_path: Path) -> None:
    """By its full name, by timm's tag for it, by its architecture."""
    for file, names in (
        ("test_resnet.r160_in1k.safetensors", ("test_resnet.r160_in1k", "test_resnet")),
        ("test_vit.safetensors", ("test_vit.r160_in1k", "test_vit")),
        ("model.bin", ("hf_hub:owner/model@main", f"local-dir:{tmp_path}/model")),
    ):
        (tmp_path / file).touch()
        for name in names:
            assert weights_file(name, str(tmp_path)) == tmp_path / file
    with pytest.raises(BackboneError, match=r"the folder has no lcnet_035.safetensors"):
        weights_file("lcnet_035", str(tmp_path))


def test_a_part_is_built_again_and_strange_ones_are_refused() -> None:
    _, part = build_timm_model(Wanted("test_vit", 0, 64))
    assert part == Part("test_vit", {"img_size": 64})
    assert rebuild_part(part, 0).eval()(torch.rand(1, 3, 64, 64)).shape == (1, 64)
    with pytest.raises(BackboneError, match="no such model"):
        rebuild_part(Part("local-dir:/somewhere"), 0)
