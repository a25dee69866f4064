"""Optimizer and learning-rate schedule, both timm's."""

from __future__ import annotations

import difflib

import timm
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from timm.scheduler import CosineLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from search_spaces.config import OptimizerConfig, ScheduleConfig


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


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> Optimizer:
    """timm's factory: no weight decay on biases and norms. Raises OptimizerError for one that is
    unknown, or that needs a package or a GPU which this machine lacks."""
    check_optimizer_name(config.name)
    try:
        return create_optimizer_v2(
            model, opt=config.name, lr=config.lr, weight_decay=config.weight_decay
        )
    except (AssertionError, ImportError, RuntimeError) as error:
        line = " ".join(str(error).split())[:200]
        raise OptimizerError(f"optimizer.name={config.name}: {line}") from error


def build_schedule(
    config: ScheduleConfig, optimizer: Optimizer, *, lr: float, total_steps: int
) -> Scheduler:
    """Stepped once per optimizer step: linear warm-up over `warmup_fraction` of the steps, then
    cosine to `final_fraction * lr` (Loshchilov and Hutter 2017, arXiv:1608.03983), or constant."""
    warmup = round(config.warmup_fraction * total_steps)
    floor = 1.0 if config.name == "constant" else config.final_fraction
    return CosineLRScheduler(
        optimizer,
        t_initial=max(2, total_steps - warmup),  # of 1 timm makes a constant, with a warning
        lr_min=lr * floor,
        warmup_t=warmup,
        warmup_lr_init=lr * 0.01,
        warmup_prefix=True,
        t_in_epochs=False,
    )
