"""Penalties on the weights, added to the loss: L1 (Tibshirani 1996) and L2 (Hoerl and Kennard 1970,
doi:10.1080/00401706.1970.10488634)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


def penalty(model: nn.Module, l1: float, l2: float) -> Tensor:
    """Scalar: l1 * sum |w| + l2 * sum w**2 over the weights that learn, differentiable.

    Biases and norms are left alone (parameters of fewer than two dimensions), and so are those that
    a timm model excepts from weight decay. Where both are 0 no weight is read."""
    total = torch.zeros(())
    if not (l1 or l2):
        return total
    for weight in penalised(model):
        total = total.to(weight.device)
        if l1:
            total = total + l1 * weight.abs().sum()
        if l2:
            total = total + l2 * weight.square().sum()
    return total


def penalised(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that `penalty` sums over."""
    excepted = cast(Any, model).no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.ndim > 1 and name not in excepted
    ]
