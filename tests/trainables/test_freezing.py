from __future__ import annotations

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from search_spaces.config import BackboneConfig
from tests.trainables.test_composed import composed
from trainables.composed import Cosines
from trainables.freezing import apply_freezing, learning_stages, trainable_stages

TINY = ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_byobnet"]
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def tiny(name: str) -> nn.Module:
    torch.manual_seed(0)
    size = {"img_size": 32} if name == "test_vit" else {}
    return timm.create_model(name, num_classes=3, **size)


def config(freeze_epochs: int, unfreeze: str = "all") -> BackboneConfig:
    return BackboneConfig(name="x", freeze_epochs=freeze_epochs, unfreeze=unfreeze)  # type: ignore[arg-type]


def learning(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_is_in_one_stage_and_the_classifier_comes_first(name: str) -> None:
    model = tiny(name)
    stages = trainable_stages(model)
    every = [parameter for stage in stages for parameter in stage]
    assert sorted(every) == sorted(name for name, _ in model.named_parameters())
    classifier = model.get_classifier()  # type: ignore[operator]
    assert {id(dict(model.named_parameters())[one]) for one in stages[0]} == {
        id(parameter) for parameter in classifier.parameters()
    }
    assert len(stages) >= 5
    first = next(name for name, _ in model.named_parameters())
    assert first in stages[-1]  # the stem comes last


def test_a_norm_beside_the_classifier_is_no_stage_of_its_own() -> None:
    stages = trainable_stages(tiny("test_convnext"))
    holding = next(stage for stage in stages if "head.norm.weight" in stage)
    assert any(name.startswith("stages.3.") for name in holding)


def test_stages_of_two_backbones_are_joined_from_the_end() -> None:
    model = composed("test_resnet", "test_convnext")
    stages = trainable_stages(model)
    assert stages[0] == ("head.weight", "head.bias")
    assert {name.split(".")[1] for name in stages[1]} == {"0", "1"}
    assert any(name.startswith("backbones.0.layer4") for name in stages[1])
    assert any(name.startswith("backbones.1.stages.3") for name in stages[1])


def test_what_timm_holds_fixed_is_in_no_stage() -> None:
    model = tiny("test_resnet")
    model.get_parameter("conv1.0.weight").requires_grad_(False)
    stages = trainable_stages(model)
    assert all("conv1.0.weight" not in stage for stage in stages)
    apply_freezing(model, stages, config(1), epoch=2)
    assert "conv1.0.weight" not in learning(model)
    assert "conv1.1.weight" in learning(model)


def test_the_number_of_stages_follows_the_epoch() -> None:
    all_, gradual = config(2), config(2, "gradual")
    assert [learning_stages(all_, epoch, 5) for epoch in range(1, 5)] == [1, 1, 5, 5]
    assert [learning_stages(gradual, epoch, 5) for epoch in range(1, 9)] == [1, 1, 2, 3, 4, 5, 5, 5]
    assert [learning_stages(config(0, "gradual"), epoch, 3) for epoch in (1, 2, 3)] == [2, 3, 3]
    assert learning_stages(config(0), 1, 5) == 5


def test_without_freezing_nothing_is_touched() -> None:
    model = tiny("test_resnet").train()
    stages = trainable_stages(model)
    model.get_parameter("fc.weight").requires_grad_(False)
    apply_freezing(model, stages, config(0), epoch=1)
    assert "fc.weight" not in learning(model)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", [*TINY, "fusion", "cosine"])
def test_only_the_classifier_changes_while_the_rest_is_frozen(name: str) -> None:
    """Weights, decay and the statistics of batch norms."""
    model = {
        "fusion": lambda: composed("test_resnet", "test_vit"),
        "cosine": lambda: composed("test_byobnet", cosine=True),
    }.get(name, lambda: tiny(name))()
    stages = trainable_stages(model)
    optimizer = create_optimizer_v2(model, "adamw", lr=0.1, weight_decay=0.5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for epoch in (1, 2):
        model.train()
        apply_freezing(model, stages, config(2), epoch)
        answer = model(IMAGES)
        loss = answer.cosines if isinstance(answer, Cosines) else answer
        loss[:, 0].sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    changed = {key for key, value in model.state_dict().items() if not value.equal(before[key])}
    assert changed == set(stages[0])
    model.train()
    apply_freezing(model, stages, config(2), 3)
    assert learning(model) == {key for stage in stages for key in stage}
    assert all(module.training for module in model.modules())


def test_stages_thaw_one_an_epoch_and_their_batch_norms_with_them() -> None:
    model = tiny("test_resnet")
    stages = trainable_stages(model)
    model.train()
    apply_freezing(model, stages, config(1, "gradual"), epoch=2)
    assert learning(model) == {*stages[0], *stages[1]}
    norms = {n: m.training for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {name.startswith("layer4") for name, training in norms.items() if training} == {True}
    assert not any(training for name, training in norms.items() if not name.startswith("layer4"))


def test_a_batch_norm_without_parameters_follows_what_is_around_it() -> None:
    model = nn.Module()
    model.body = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False))
    model.head = nn.Linear(2, 2)
    model.pretrained_cfg = {"classifier": "head"}
    stages = trainable_stages(model)
    assert stages[0] == ("head.weight", "head.bias")
    model.train()
    apply_freezing(model, stages, config(1), 1)
    assert not model.body[1].training
    model.train()
    apply_freezing(model, stages, config(1), 2)
    assert model.body[1].training


def test_it_is_a_pure_function_of_the_epoch() -> None:
    """A run resumed in epoch 4 stands as one that came there epoch by epoch."""
    walked, resumed = tiny("test_vit"), tiny("test_vit")
    stages = trainable_stages(walked)
    for epoch in range(1, 5):
        walked.train()
        apply_freezing(walked, stages, config(2, "gradual"), epoch)
    resumed.train()
    apply_freezing(resumed, trainable_stages(resumed), config(2, "gradual"), 4)
    assert learning(walked) == learning(resumed)


def test_a_gradient_left_from_before_is_dropped() -> None:
    model = tiny("test_resnet").train()
    model(IMAGES).sum().backward()
    stages = trainable_stages(model)
    apply_freezing(model, stages, config(1), 1)
    assert {n for n, p in model.named_parameters() if p.grad is not None} == set(stages[0])
