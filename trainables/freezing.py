"""Freezing and gradual unfreezing: which parameters learn in which epoch.

A pure function of the epoch, so that a resumed run stands where it would have stood. Source:
Howard and Ruder 2018, arXiv:1801.06146, section 3.3.
"""

from __future__ import annotations

from typing import TypeAlias

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from search_spaces.config import BackboneConfig
from trainables.composed import ComposedModel, parameter_depths
from trainables.timm_models import classifier_names

Stage: TypeAlias = tuple[str, ...]


def trainable_stages(model: nn.Module) -> tuple[Stage, ...]:
    """The names of the parameters that learn, by stage, last first: the classifier, then timm's
    own groups from the head to the stem.

    Taken once from a fresh model: what timm itself holds fixed is in no stage and stays fixed."""
    heads = ("head",) if isinstance(model, ComposedModel) else classifier_names(model)
    depths = parameter_depths(model, coarse=True)
    last = max(depths.values(), default=0)
    classifier: list[str] = []
    stages: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if any(name.startswith(f"{head}.") for head in heads):
            classifier.append(name)
        else:
            # A final norm beside the classifier is no stage of its own.
            stages.setdefault(min(depths[name], max(last - 1, 0)), []).append(name)
    ordered = [stages[depth] for depth in sorted(stages, reverse=True)]
    return tuple(tuple(stage) for stage in (classifier, *ordered) if stage)


def learning_stages(config: BackboneConfig, epoch: int, n_stages: int) -> int:
    """How many stages, counted from the classifier, learn in `epoch` (from 1)."""
    if epoch <= config.freeze_epochs:
        return 1
    if config.unfreeze == "all":
        return n_stages
    return min(n_stages, 1 + epoch - config.freeze_epochs)


def apply_freezing(
    model: nn.Module, stages: tuple[Stage, ...], config: BackboneConfig, epoch: int
) -> None:
    """Let only the stages of `epoch` (from 1) learn. Call it after `model.train()`, every epoch.

    The other parameters need no gradient and lose the one they have, so that no optimizer touches
    them, not even to decay them. Their batch norms are in evaluation mode: their statistics are
    frozen too. The optimizer is built before: timm's factory passes over what is frozen."""
    if not config.freeze_epochs and config.unfreeze == "all":
        return
    learning = learning_stages(config, epoch, len(stages))
    names = {name for stage in stages[:learning] for name in stage}
    frozen = {name for stage in stages[learning:] for name in stage}
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(True)
        elif name in frozen:
            parameter.requires_grad_(False)
            parameter.grad = None
    if frozen:
        _hold_statistics(model, names)


def _hold_statistics(model: nn.Module, learning: set[str]) -> None:
    parameters = [name for name, _ in model.named_parameters()]
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and not _learns(name, parameters, learning):
            module.eval()


def _learns(module: str, parameters: list[str], learning: set[str]) -> bool:
    """Whether a module's parameters learn; of one without any, those of the nearest around it."""
    while module:
        own = [name for name in parameters if name.startswith(f"{module}.")]
        if own:
            return any(name in learning for name in own)
        module = module.rpartition(".")[0]
    return True
