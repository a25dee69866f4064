from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from search_spaces.config import OptimizerConfig
from trainables import optim
from trainables.composed import ComposedModel, n_features, parameter_depths
from trainables.optim import OptimizerError, build_optimizer, check_optimizer_name


def small_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.LayerNorm(2)
    )


def test_a_misspelt_optimizer_is_told_the_nearest_names() -> None:
    with pytest.raises(OptimizerError, match=r"optimizer.name=adamww: timm .*did you mean adamw"):
        check_optimizer_name("adamww")
    with pytest.raises(OptimizerError, match="no such optimizer; did you mean"):
        build_optimizer(OptimizerConfig(name="zzzzzz", lr=0.1), small_model())


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "lion", "nadamw", "rmsprop"])
def test_known_optimizers_are_built_with_their_values(name: str) -> None:
    check_optimizer_name(name)
    optimizer = build_optimizer(
        OptimizerConfig(name=name, lr=0.02, weight_decay=0.1), small_model()
    )
    assert {group["lr"] for group in optimizer.param_groups} == {0.02}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.1}


def test_biases_and_norms_have_no_weight_decay() -> None:
    model = small_model()
    optimizer = build_optimizer(OptimizerConfig(name="adamw", lr=0.1, weight_decay=0.05), model)
    decays = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    names = {name: decays[id(parameter)] for name, parameter in model.named_parameters()}
    assert {name for name, decay in names.items() if decay} == {"0.weight", "3.weight"}
    assert len(names) == 8


def test_one_that_needs_second_derivatives_is_refused_before_it_fails() -> None:
    with pytest.raises(OptimizerError, match="adahessian: needs second derivatives"):
        check_optimizer_name("adahessian")


def test_one_that_this_machine_lacks_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise AssertionError("CUDA required for\n APEX optimizers")

    monkeypatch.setattr(optim, "create_optimizer_v2", lacking)
    with pytest.raises(OptimizerError) as caught:
        build_optimizer(OptimizerConfig(name="fusedadam", lr=0.1), small_model())
    assert str(caught.value) == "optimizer.name=fusedadam: CUDA required for APEX optimizers"


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("sgd", "momentum", 0.7),
        ("rmsprop", "momentum", 0.7),
        ("muon", "momentum", 0.7),
        ("adamw", "betas", (0.9, 0.999)),
        ("lion", "betas", (0.9, 0.99)),
    ],
)
def test_momentum_goes_to_those_that_have_one(name: str, key: str, value: object) -> None:
    optimizer = build_optimizer(OptimizerConfig(name=name, lr=0.1, momentum=0.7), small_model())
    assert {group[key] for group in optimizer.param_groups} == {value}


def test_sgd_without_momentum_does_not_look_ahead() -> None:
    optimizer = build_optimizer(OptimizerConfig(name="sgd", lr=0.1, momentum=0.0), small_model())
    assert {group["nesterov"] for group in optimizer.param_groups} == {False}


def test_settings_that_an_optimizer_refuses_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object, **__: object) -> None:
        raise ValueError("Invalid beta\n parameter")

    monkeypatch.setattr(optim, "create_optimizer_v2", refusing)
    with pytest.raises(OptimizerError, match=r"^optimizer.name=adam: Invalid beta parameter$"):
        build_optimizer(OptimizerConfig(name="adam", lr=0.1), small_model())


# --- layer-wise learning rates ---------------------------------------------------------------


def scales(model: nn.Module, layer_decay: float, name: str = "adamw") -> dict[str, float]:
    config = OptimizerConfig(name=name, lr=1.0, weight_decay=0.1)
    optimizer = build_optimizer(config, model, layer_decay=layer_decay)
    found = {
        id(parameter): group.get("lr_scale", 1.0)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return {key: found[id(parameter)] for key, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext"])
def test_layers_learn_the_more_slowly_the_nearer_they_are_to_the_image(name: str) -> None:
    model = timm.create_model(name, num_classes=3)
    depths = parameter_depths(model, coarse=False)
    found, deepest = scales(model, 0.5), max(depths.values())
    assert found == {key: 0.5 ** (deepest - depth) for key, depth in depths.items()}
    classifier = {id(parameter) for parameter in model.get_classifier().parameters()}
    heads = [key for key, value in model.named_parameters() if id(value) in classifier]
    assert {found[key] for key in heads} == {1.0}
    assert set(scales(model, 1.0).values()) == {1.0}


def fused() -> ComposedModel:
    backbones = [timm.create_model(name, num_classes=0) for name in ("test_resnet", "test_vit")]
    return ComposedModel(backbones, nn.Linear(n_features(backbones), 3))


def test_both_backbones_decay_from_their_common_head() -> None:
    found = scales(fused(), 0.5)
    assert {value for key, value in found.items() if key.startswith("head.")} == {1.0}
    for number in (0, 1):
        own = [value for key, value in found.items() if key.startswith(f"backbones.{number}.")]
        assert max(own) == 0.5
        assert min(own) < 0.5


# --- Muon ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["timm", "fused"])
def test_muon_leaves_classifier_and_embeddings_to_adamw(kind: str, layer_decay: float) -> None:
    model = fused() if kind == "fused" else timm.create_model("test_vit", num_classes=3)
    config = OptimizerConfig(name="muon", lr=0.01, weight_decay=0.1)
    optimizer = build_optimizer(config, model, layer_decay=layer_decay)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    left = {
        names[id(parameter)]
        for group in optimizer.param_groups
        if group.get("use_fallback")
        for parameter in group["params"]
    }
    prefix = "backbones.1." if kind == "fused" else ""
    assert left == {"head.weight", "head.bias", f"{prefix}pos_embed", f"{prefix}cls_token"}
    images = torch.rand(2, 3, 160, 160)
    model(images).square().sum().backward()
    optimizer.step()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["adam", "adamw", "lion", "muon", "rmsprop", "sgd"])
def test_every_member_of_the_group_goes_on_from_its_state(name: str) -> None:
    def train(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            optimizer.zero_grad()
            images = torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
            model(images).square().sum().backward()
            optimizer.step()

    config = OptimizerConfig(name=name, lr=0.01, weight_decay=0.1)
    whole, first, second = small_model(), small_model(), small_model()
    first.load_state_dict(whole.state_dict())
    train(whole, build_optimizer(config, whole), range(4))
    optimizer = build_optimizer(config, first)
    train(first, optimizer, range(2))
    again = build_optimizer(config, second)
    second.load_state_dict(first.state_dict())
    again.load_state_dict(optimizer.state_dict())
    train(second, again, range(2, 4))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_step_moves_the_weights() -> None:
    torch.manual_seed(0)
    model = small_model()
    optimizer = build_optimizer(OptimizerConfig(name="adamw", lr=0.1), model)
    before = model[3].weight.detach().clone()  # type: ignore[index]
    model(torch.ones(2, 3, 3, 3)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[3].weight, before)  # type: ignore[index]
