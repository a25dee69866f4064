"""Optimizers, by timm's factory."""

from __future__ import annotations

import difflib
from typing import Any, cast

import timm
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import nn
from torch.optim import Optimizer

from search_spaces.config import OptimizerConfig


class OptimizerError(ValueError):
    """An optimizer that cannot be had as asked: one line for the user."""


def check_optimizer_name(name: str) -> None:
    """Raises OptimizerError, with the nearest names, when timm does not know `name`."""
    known = list_optimizers()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:8]
        raise OptimizerError(
            f"optimizer.name={name}: timm {timm.__version__} has no such optimizer; "
            f"did you mean {', '.join(near)}?"
        )
    if get_optimizer_info(name).second_order:
        raise OptimizerError(
            f"optimizer.name={name}: needs second derivatives, which are not computed here; "
            "choose another one, such as adamw"
        )


def build_optimizer(
    config: OptimizerConfig, model: nn.Module, *, layer_decay: float = 1.0
) -> Optimizer:
    """timm's factory: no weight decay on biases and norms; `momentum` where the optimizer has one.

    `layer_decay`: each of timm's layers learns at this times the rate of the one after it, the
    classifier at the full one (Clark et al. 2020, ELECTRA, arXiv:2003.10555; Bao et al. 2021,
    BEiT, arXiv:2106.08254). Groups then have an `lr_scale`, which the schedule applies.

    Raises OptimizerError for one that is unknown, that refuses its settings, or that needs a
    package or a GPU which this machine lacks."""
    check_optimizer_name(config.name)
    more: dict[str, Any] = {} if layer_decay == 1.0 else {"layer_decay": layer_decay}
    try:
        return create_optimizer_v2(
            model,
            opt=config.name,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            **more,
            **_own_arguments(config, model),
        )
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise OptimizerError(f"optimizer.name={config.name}: {line}") from error


def _own_arguments(config: OptimizerConfig, model: nn.Module) -> dict[str, Any]:
    """What some optimizers need to be told."""
    if "muon" in config.name:
        # Orthogonal steps are for hidden layers: classifier and embeddings learn by AdamW (Jordan
        # et al. 2024, kellerjordan.github.io/posts/muon).
        return {"fallback_list": _classifier_patterns(model), "fallback_no_weight_decay": True}
    if not config.momentum and (get_optimizer_info(config.name).defaults or {}).get("nesterov"):
        return {"nesterov": False}  # it looks ahead along the momentum; torch refuses without one
    return {}


def _classifier_patterns(model: nn.Module) -> list[str]:
    """Patterns of the names of the classifier's parameters."""
    names: Any = "head"
    if not hasattr(model, "backbones"):
        names = cast(Any, getattr(model, "pretrained_cfg", {})).get("classifier") or ()
    return [f"{name}.*" for name in ((names,) if isinstance(names, str) else names)]
