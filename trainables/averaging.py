"""Averages of a fold run's weights, and the points of the run that are kept as members.

An averager is told of every step and epoch; what it holds is a state like `model.state_dict()`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from search_spaces.config import AveragingConfig
from trainables.points import even_points
from trainables.step import micro_batches


def build_averager(config: AveragingConfig, model: nn.Module) -> Averager | None:
    """The averager that a configuration asks for, on the model's device; None for no average."""
    if config.name == "ema":
        return ExponentialAverage(model, config.decay)
    if config.name == "swa":
        return EqualAverage(config.swa_from)
    return None


class Averager(ABC):
    """An average of a model's weights over its training."""

    def after_step(self, model: nn.Module, step: int) -> None:
        """Call after each step of the optimizer, with its number from 0."""
        return

    def after_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Call after each epoch (from 1) of `epochs`, the model still in training mode."""
        return

    @abstractmethod
    def averaged_state(self) -> dict[str, Tensor] | None:
        """The average as a state of the model: the averager's own tensors, to be copied from and
        not to be changed. None before there is one."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Tensors on the CPU and plain values, enough to go on exactly."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class ExponentialAverage(Averager):
    """After every step: average = d * average + (1 - d) * weights, with d = min(decay, (1 + step) /
    (10 + step)), so that the random start is soon forgotten.

    Source: Polyak and Juditsky 1992, doi:10.1137/0330046; the growing d is TensorFlow's. Float
    buffers, batch norm's statistics among them, are averaged with the weights (as timm's
    ModelEmaV3); whole numbers are copied."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._average = _copy(model.state_dict())

    def after_step(self, model: nn.Module, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        state = model.state_dict()
        names = [name for name, value in state.items() if value.is_floating_point()]
        _update(get_ema_multi_avg_fn(decay), self._average, state, names, None)
        _copy_others(self._average, state, names)

    def averaged_state(self) -> dict[str, Tensor]:
        return self._average

    def state_dict(self) -> dict[str, Any]:
        return {"average": _on_cpu(self._average)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in self._average.items():
            value.copy_(state["average"][name])


class EqualAverage(Averager):
    """The mean of the weights after each epoch that begins at `swa_from` of the epochs or later,
    and of the last in any case.

    Source: Izmailov et al. 2018, Averaging Weights Leads to Wider Optima, arXiv:1803.05407,
    algorithm 1. Buffers are the last epoch's: batch norm's statistics fit none of the averaged
    weights, measure them anew by `recompute_batch_norm`."""

    def __init__(self, swa_from: float) -> None:
        self._from = swa_from
        self._count = 0
        self._average: dict[str, Tensor] | None = None

    def after_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        if epoch < epochs and epoch - 1 < self._from * epochs - 1e-9:
            return
        state = model.state_dict()
        if self._average is None:
            self._average, self._count = _copy(state), 1
            return
        # Both names of weights that are shared, else one of them would not be averaged.
        weights = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        names = [name for name in weights if name in state]
        self._average = {
            name: value.to(state[name].device) for name, value in self._average.items()
        }
        _update(get_swa_multi_avg_fn(), self._average, state, names, self._count)
        _copy_others(self._average, state, names)
        self._count += 1

    def averaged_state(self) -> dict[str, Tensor] | None:
        return self._average

    def state_dict(self) -> dict[str, Any]:
        average = None if self._average is None else _on_cpu(self._average)
        return {"average": average, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._average = None if state["average"] is None else _copy(state["average"])
        self._count = state["count"]


def held_batch_norms(model: nn.Module) -> frozenset[str]:
    """The names of the batch norms whose statistics are frozen: those in evaluation mode while the
    model is in training mode."""
    return frozenset(
        name
        for name, module in model.named_modules()
        if model.training and isinstance(module, _BatchNorm) and not module.training
    )


@torch.no_grad()
def recompute_batch_norm(
    model: nn.Module,
    batches: Iterable[Tensor],
    device: torch.device,
    *,
    held: frozenset[str] = frozenset(),
    at_once: int | None = None,
) -> None:
    """Measure the statistics of batch norm anew, as means over `batches` of training images, each
    (n, 3, H, W) float32. Without batch norm nothing is done and no batch is taken.

    Like torch.optim.swa_utils.update_bn, but only batch norm is in training mode: its statistics
    are to be those of a model that predicts, without dropout (Li et al. 2018, arXiv:1801.05134),
    and no random number is drawn. `held`, from `held_batch_norms`: those that stay as they are.
    `at_once`: larger batches go through the model in parts of at most so many images, each of which
    then counts as a batch. Batches of one image, which batch norm cannot measure, are passed over.
    Raises ValueError where no batch is left."""
    norms = {
        module: module.momentum
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and name not in held
    }
    if not norms:
        return
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.training = True
    measured = 0
    try:
        for batch in batches:
            for part in micro_batches(len(batch), at_once or len(batch)):
                if part.stop - part.start > 1:
                    model(batch[part].to(device))
                    measured += 1
    finally:
        for norm, momentum in norms.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    if not measured:
        raise ValueError("batch norm needs a batch of two or more training images, got none")


def snapshot_epochs(config: AveragingConfig, epochs: int) -> dict[int, int]:
    """The epochs (from 1) after which a point of the run is kept, and the number of each: evenly
    spaced; the last epoch is point 0, those before it are 1, 2, … in order.

    Source: Huang et al. 2017, Snapshot Ensembles, arXiv:1704.00109. `config.snapshots` must be at
    most `epochs`."""
    *earlier, last = even_points(epochs, config.snapshots)
    return {epoch: number for number, epoch in enumerate(earlier, start=1)} | {last: 0}


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def _update(
    average: Any, ours: dict[str, Tensor], theirs: dict[str, Tensor], names: list[str], count: Any
) -> None:
    """In place, one kernel for many tensors of a type."""
    for dtype in {ours[name].dtype for name in names}:
        of_type = [name for name in names if ours[name].dtype == dtype]
        average([ours[name] for name in of_type], [theirs[name] for name in of_type], count)


@torch.no_grad()
def _copy_others(ours: dict[str, Tensor], theirs: dict[str, Tensor], averaged: list[str]) -> None:
    known = set(averaged)
    for name, value in theirs.items():
        if name not in known:
            ours[name].copy_(value)
