from __future__ import annotations

import math

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.optim import create_optimizer_v2
from torch import nn

from trainables.composed import (
    ComposedModel,
    CosineClassifier,
    Cosines,
    affine_between,
    n_features,
    parameter_depths,
)
from trainables.recipe import Normalisation

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def composed(*names: str, cosine: bool = False, drop_rate: float = 0.0) -> ComposedModel:
    torch.manual_seed(0)
    sized = {"test_vit": {"img_size": 32}}
    backbones = [timm.create_model(name, num_classes=0, **sized.get(name, {})) for name in names]
    d = n_features(backbones)
    head = CosineClassifier(d, 3, 16.0) if cosine else nn.Linear(d, 3)
    return ComposedModel(backbones, head, drop_rate)


# --- the cosine classifier -------------------------------------------------------------------


def test_cosines_and_norms_are_those_of_the_geometry() -> None:
    head = CosineClassifier(2, 3, scale=10.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, -1.0]]))
    features = torch.tensor([[3.0, 0.0], [3.0, 4.0]])
    answer = head(features)
    assert isinstance(answer, Cosines)
    half = math.sqrt(0.5)
    expected = torch.tensor([[1.0, 0.0, -half], [0.6, 0.8, -1.4 * half]])
    torch.testing.assert_close(answer.cosines, expected)
    torch.testing.assert_close(answer.norms, torch.tensor([3.0, 5.0]))
    torch.testing.assert_close(head.eval()(features), 10.0 * expected)


@given(st.integers(0, 10**6), st.floats(0.01, 1000.0))
def test_cosines_ignore_length_and_stay_within_one(seed: int, factor: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(5, 8, generator=generator)
    head = CosineClassifier(8, 4, 1.0)
    with torch.no_grad():
        head.weight.copy_(torch.cat([features[:2], -features[:2]]))  # cosines of exactly ±1
    ours, longer = head(features), head(features * factor)
    assert ours.cosines.abs().max() <= 1.0
    torch.testing.assert_close(longer.cosines, ours.cosines, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(longer.norms, ours.norms * factor)


def test_cosines_are_float32_under_autocast_and_of_no_features_finite() -> None:
    head = CosineClassifier(8, 3, 16.0)
    with torch.autocast("cpu", torch.bfloat16):
        answer = head(torch.zeros(2, 8, dtype=torch.bfloat16))
    assert answer.cosines.dtype == answer.norms.dtype == torch.float32
    assert torch.isfinite(answer.cosines).all()


# --- the composed model ----------------------------------------------------------------------


def test_features_of_both_go_into_one_classifier() -> None:
    model = composed("test_convnext", "test_vit").eval()
    first, second = (backbone(IMAGES) for backbone in model.backbones)
    expected = model.head(torch.cat([first, second], dim=1))
    torch.testing.assert_close(model(IMAGES), expected)


def test_a_cosine_model_answers_cosines_in_training_and_logits_elsewhere() -> None:
    model = composed("test_resnet", cosine=True)
    answer = model.train()(IMAGES)
    assert isinstance(answer, Cosines)
    assert answer.cosines.shape == (4, 3)
    assert answer.norms.shape == (4,)
    answer.cosines.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    logits = model.eval()(IMAGES)
    assert logits.shape == (4, 3)
    assert logits.abs().max() <= 16.0


def test_dropout_acts_on_the_features_in_training_only() -> None:
    model = composed("test_vit", drop_rate=0.5)
    assert not torch.equal(model.train()(IMAGES), model(IMAGES))
    assert torch.equal(model.eval()(IMAGES), model(IMAGES))


@given(st.lists(st.floats(0.1, 0.9), min_size=12, max_size=12))
def test_each_backbone_sees_the_image_normalised_as_it_wants(values: list[float]) -> None:
    one, two = (Normalisation(tuple(v[:3]), tuple(v[3:])) for v in (values[:6], values[6:]))  # type: ignore[arg-type]
    pixels = torch.rand(3, generator=torch.Generator().manual_seed(0))
    seen = (pixels - torch.tensor(one.mean)) / torch.tensor(one.std)
    scale, shift = affine_between(one, two)
    expected = (pixels - torch.tensor(two.mean)) / torch.tensor(two.std)
    torch.testing.assert_close(seen * scale + shift, expected, atol=1e-4, rtol=1e-4)


def test_the_difference_of_normalisations_is_saved_with_the_weights_and_not_learned() -> None:
    model = composed("test_resnet", "test_vit").eval()
    model.set_normalisations([Normalisation(), HALF])
    seen: list[torch.Tensor] = []
    model.backbones[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (Normalisation().mean, Normalisation().std))
    answer = model((IMAGES - mean) / std)
    torch.testing.assert_close(seen[0], (IMAGES - 0.5) / 0.5)
    other = composed("test_resnet", "test_vit").eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other((IMAGES - mean) / std), answer)
    assert {"scales", "shifts"} & {name for name, _ in model.named_parameters()} == set()


@pytest.mark.parametrize("cosine", [False, True])
def test_it_goes_through_autocast_and_channels_last(cosine: bool) -> None:
    model = composed("test_resnet", "test_vit", cosine=cosine).eval()
    images = IMAGES.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits = model.to(memory_format=torch.channels_last)(images)
    assert torch.isfinite(logits).all()


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    grads = []
    for enable in (False, True):
        model = composed("test_convnext", "test_vit")
        model.set_grad_checkpointing(enable)
        model(IMAGES).sum().backward()
        grads.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))  # type: ignore[union-attr]
    torch.testing.assert_close(grads[0], grads[1])


# --- what timm's factories ask ---------------------------------------------------------------


@pytest.mark.parametrize("coarse", [False, True])
def test_both_backbones_end_together_and_the_head_comes_last(coarse: bool) -> None:
    model = composed("test_resnet", "test_convnext", "test_vit")
    depths = parameter_depths(model, coarse)
    assert set(depths) == {name for name, _ in model.named_parameters()}
    tops = [
        max(depth for name, depth in depths.items() if name.startswith(f"backbones.{number}."))
        for number in range(3)
    ]
    assert len(set(tops)) == 1
    heads = {depth for name, depth in depths.items() if name.startswith("head.")}
    assert heads == {tops[0] + 1}
    assert min(depths.values()) == 0


def test_a_final_norm_is_no_depth_of_its_own() -> None:
    """timm's ConvNeXt keeps `head.norm` where it has no classifier."""
    depths = parameter_depths(composed("test_convnext"), coarse=True)
    last_stage = max(depth for name, depth in depths.items() if ".stages.3." in name)
    assert depths["backbones.0.head.norm.weight"] == last_stage


def test_layer_decay_of_timm_works_on_it() -> None:
    model = composed("test_vit", "test_resnet")
    optimizer = create_optimizer_v2(model, "adamw", lr=1.0, weight_decay=0.1, layer_decay=0.5)
    scale = {
        id(parameter): group["lr_scale"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    named = dict(model.named_parameters())
    assert scale[id(named["head.weight"])] == 1.0
    assert len(set(scale.values())) > 3
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert id(named["backbones.0.pos_embed"]) not in decayed
    assert model.no_weight_decay() >= {"backbones.0.pos_embed", "backbones.0.cls_token"}
    assert model.get_classifier() is model.head
