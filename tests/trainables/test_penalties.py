from __future__ import annotations

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainables.penalties import penalised, penalty


def by_hand() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [0.0, 3.0]]))
        model[0].bias.fill_(100.0)  # type: ignore[union-attr]
    return model


def test_the_sums_of_four_weights_by_hand() -> None:
    assert penalty(by_hand(), 0.1, 0.0).item() == pytest.approx(0.1 * 6.0)
    assert penalty(by_hand(), 0.0, 0.01).item() == pytest.approx(0.01 * 14.0)


@given(l1=st.floats(0, 1), l2=st.floats(0, 1))
def test_the_gradient_is_the_sign_and_twice_the_weight(l1: float, l2: float) -> None:
    model = by_hand()
    value = penalty(model, l1, l2)
    assert value.item() == pytest.approx(l1 * 6.0 + l2 * 14.0)
    if l1 or l2:
        value.backward()
        weight = model[0].weight.detach()
        expected = l1 * weight.sign() + 2 * l2 * weight
        torch.testing.assert_close(model[0].weight.grad, expected)
    assert model[0].bias.grad is model[1].weight.grad is None


def test_without_penalties_no_weight_is_read() -> None:
    class Unread(nn.Module):
        def named_parameters(self, *_: object, **__: object) -> None:  # type: ignore[override]
            raise AssertionError("read")

    value = penalty(Unread(), 0.0, 0.0)
    assert value.item() == 0.0
    assert not value.requires_grad


def test_frozen_weights_cost_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    model[0].requires_grad_(False)
    expected = model[1].weight.abs().sum()
    torch.testing.assert_close(penalty(model, 1.0, 0.0), expected)


def test_embeddings_that_timm_does_not_decay_are_left_alone() -> None:
    model = timm.create_model("test_vit", num_classes=2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(parameter)] for parameter in penalised(model)}
    assert "head.weight" in found
    assert "patch_embed.proj.weight" in found
    assert not found & {"pos_embed", "cls_token", "head.bias"}
