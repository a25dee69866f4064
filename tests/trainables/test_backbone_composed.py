"""Two backbones under one head, and heads of ours, as `build_backbone` makes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from search_spaces.config import BackboneConfig, LossConfig
from tests.trainables.made_models import closed_network, made_state, write_hub_cache
from tests.trainables.test_backbone import RESNET, logits
from trainables.backbone import (
    BackboneError,
    Normalisation,
    Recipe,
    build_backbone,
    check_backbone,
    rebuild,
)
from trainables.composed import ComposedModel, Cosines
from trainables.recipe import Part

FUSION = BackboneConfig(name="test_convnext", second="test_vit", drop_rate=0.2)
ARCFACE = LossConfig(name="arcface", scale=16.0)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network; the folder of the hub's cache, which is empty."""
    closed_network(monkeypatch, tmp_path / "hub")
    return tmp_path / "hub"


def test_a_plain_model_stays_timms_own() -> None:
    built = build_backbone(RESNET, 3, 32, loss=LossConfig(name="focal"))
    assert not isinstance(built.model, ComposedModel)
    assert built.recipe.is_plain


@pytest.mark.parametrize(("config", "loss"), [(FUSION, None), (FUSION, ARCFACE), (RESNET, ARCFACE)])
def test_a_composed_model_is_built_again_from_its_recipe_and_weights(
    config: BackboneConfig, loss: LossConfig | None
) -> None:
    built = build_backbone(config, 3, 32, loss=loss)
    assert isinstance(built.model, ComposedModel)
    recipe = Recipe.from_dict(json.loads(json.dumps(built.recipe.to_dict())))
    assert recipe == built.recipe
    assert (recipe.head, recipe.scale) == (("cosine", 16.0) if loss else ("linear", 1.0))
    assert recipe.second == (Part("test_vit", {"img_size": 32}) if config is FUSION else None)
    again = rebuild(recipe, 3)
    again.load_state_dict(built.model.state_dict())
    assert torch.equal(logits(again, 32), logits(built.model, 32))
    answer = built.model.train()(torch.rand(2, 3, 32, 32))
    assert isinstance(answer, Cosines) == (loss is not None)


def test_both_backbones_are_pretrained_and_dropped_as_asked(offline: Path) -> None:
    states = {name: made_state(name) for name in ("test_convnext", "test_vit")}
    for name, state in states.items():
        write_hub_cache(offline, f"timm/{name}.r160_in1k", {"model.safetensors": save(state)})
    config = FUSION.model_copy(update={"pretrained": True, "drop_path_rate": 0.2})
    check_backbone(config)
    model = build_backbone(config, 3, 160).model
    assert isinstance(model, ComposedModel)
    for backbone, state in zip(model.backbones, states.values(), strict=True):
        assert all(torch.equal(state[key], value) for key, value in backbone.state_dict().items())
        rates = [float(getattr(module, "drop_prob", 0.0)) for module in backbone.modules()]
        assert max(rates) == pytest.approx(0.2)
        # Features are dropped once, where they are joined.
        assert not any(getattr(module, "p", 0.0) for module in backbone.modules())
    assert model.head_drop.p == 0.2


def test_the_second_backbone_is_checked_as_the_first(offline: Path) -> None:
    config = BackboneConfig(name="test_resnet", second="test_vit_", pretrained=False)
    with pytest.raises(BackboneError, match=r"backbone\.second=test_vit_: .*did you mean"):
        check_backbone(config)
    config = BackboneConfig(name="test_resnet", second="lcnet_035", pretrained=True, weights="w")
    with pytest.raises(BackboneError, match=r"backbone\.second=lcnet_035: .*no pretrained weights"):
        check_backbone(config)


def test_the_second_backbone_sees_the_image_as_it_was_trained() -> None:
    config = BackboneConfig(name="resnet10t", second="test_vit")
    built = build_backbone(config, 3, 32)
    assert built.recipe.normalisation == Normalisation()
    shifts = built.model.state_dict()["shifts"].flatten(1)
    assert torch.equal(shifts[0], torch.zeros(3))
    expected = (torch.tensor(Normalisation().mean) - 0.5) / 0.5
    torch.testing.assert_close(shifts[1], expected)


@pytest.mark.parametrize("config", [RESNET, FUSION])
def test_the_data_sets_normalisation_replaces_the_models_own(config: BackboneConfig) -> None:
    own = Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    built = build_backbone(config, 3, 32, normalisation=own)
    assert built.recipe.normalisation == own
    state = built.model.state_dict()
    assert not state.get("shifts", torch.zeros(1)).any()
    assert torch.equal(state.get("scales", torch.ones(1)).unique(), torch.ones(1))


def test_activations_can_be_computed_again() -> None:
    for config in (RESNET, FUSION):
        asked = config.model_copy(update={"grad_checkpointing": True})
        model = build_backbone(asked, 3, 32).model
        parts = model.backbones if isinstance(model, ComposedModel) else [model]
        for part in parts:
            assert any(getattr(module, "grad_checkpointing", False) for module in part.modules())


def test_a_model_that_cannot_compute_again_says_so_in_one_line() -> None:
    config = BackboneConfig(name="vgg11", grad_checkpointing=True)
    expected = r"grad_checkpointing=true: timm .* cannot do that for vgg11 .*set it to false"
    with pytest.raises(BackboneError, match=expected) as caught:
        build_backbone(config, 3, 32)
    assert "\n" not in str(caught.value)
