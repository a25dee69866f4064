"""Learning-rate schedules: the rate is a pure function of the step.

Only `plateau` remembers anything: how the training loss went. Warm-up and values are those of
timm's schedulers with `warmup_prefix`.
"""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer

from search_spaces.config import ScheduleConfig
from trainables.points import even_points

WARMUP_FROM = 0.01  # of the learning rate
BETTER_BY = 1e-4  # relative, as in torch's ReduceLROnPlateau


def build_schedule(
    config: ScheduleConfig,
    optimizer: Optimizer,
    *,
    lr: float,
    total_steps: int,
    steps_per_epoch: int,
) -> Schedule:
    """The schedule of a run of `total_steps` steps of the optimizer, at its first step."""
    return Schedule(
        config, optimizer, lr=lr, total_steps=total_steps, steps_per_epoch=steps_per_epoch
    )


class Schedule:
    """Sets the learning rate of every group of `optimizer`, times the group's `lr_scale` where it
    has one (layer-wise decay)."""

    def __init__(
        self,
        config: ScheduleConfig,
        optimizer: Optimizer,
        *,
        lr: float,
        total_steps: int,
        steps_per_epoch: int,
    ) -> None:
        self.config, self.optimizer = config, optimizer
        self.lr, self.total_steps, self.steps_per_epoch = lr, total_steps, steps_per_epoch
        self.reductions, self.bad_epochs = 0, 0
        self.best: float | None = None
        self.step_update(0)

    def step_update(self, step: int) -> None:
        """Call before each step of the optimizer, with its number from 0."""
        rate = lr_at(
            self.config,
            step,
            lr=self.lr,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            reductions=self.reductions,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)

    def epoch_end(self, train_loss: float) -> None:
        """Call after each epoch with its mean *training* loss; only `plateau` listens. The loss of
        validation rows would let their labels reach their own out-of-fold predictions."""
        if self.config.name != "plateau":
            return
        if self.best is None or train_loss < self.best * (1.0 - BETTER_BY):
            self.best, self.bad_epochs = float(train_loss), 0
            return
        self.bad_epochs += 1
        if self.bad_epochs >= self.config.plateau_patience:
            self.reductions, self.bad_epochs = self.reductions + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Plain values: all that is not a function of the step."""
        return {
            "reductions": self.reductions,
            "bad_epochs": self.bad_epochs,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reductions, self.bad_epochs = state["reductions"], state["bad_epochs"]
        self.best = state["best"]


def lr_at(
    config: ScheduleConfig,
    step: int,
    *,
    lr: float,
    total_steps: int,
    steps_per_epoch: int = 1,
    reductions: int = 0,
) -> float:
    """The learning rate of step `step` (from 0) of `total_steps`.

    It rises in a line from 1 % of `lr` over `warmup_fraction` of the steps (Goyal et al. 2017,
    arXiv:1706.02677), then goes on as `config.name` says. `reductions`: how often a plateau was
    seen. A step past the end has the last step's rate, or the floor that a cosine runs into."""
    warmup = round(config.warmup_fraction * total_steps)
    fallen = config.step_factor**reductions if config.name == "plateau" else 1.0
    if step < warmup:
        start = WARMUP_FROM * lr
        return fallen * (start + step * (lr - start) / warmup)
    if config.name == "cosine":
        return _cosine(step - warmup, max(2, total_steps - warmup), lr, lr * config.final_fraction)
    if config.name == "cosine_restarts":
        return _restarts(
            config, step, warmup, lr, _cycle_ends(config, total_steps, steps_per_epoch)
        )
    if config.name == "step":
        every = config.step_fraction * total_steps
        # A little over: 0.07 * 100 is more than 7, and step 7 is meant to fall.
        return lr * config.step_factor ** math.floor((step - warmup) / every + 1e-9)
    return lr * fallen


def _cosine(step: int, steps: int, peak: float, floor: float) -> float:
    """From `peak` at step 0 to `floor` at `steps` (Loshchilov and Hutter 2017, arXiv:1608.03983,
    eq. 5)."""
    return floor + 0.5 * (peak - floor) * (1.0 + math.cos(math.pi * min(step / steps, 1.0)))


def _restarts(
    config: ScheduleConfig, step: int, warmup: int, lr: float, ends: tuple[int, ...]
) -> float:
    """The cycle that warm-up ends in is the first, and what is left of it its cosine."""
    left = [end for end in ends if end > warmup] or [warmup + 1]
    cycle = min(sum(end <= step for end in left), len(left) - 1)
    start = left[cycle - 1] if cycle else warmup
    floor = lr * config.final_fraction
    peak = max(lr * config.cycle_decay**cycle, floor)
    return _cosine(step - start, max(2, left[cycle] - start), peak, floor)


def _cycle_ends(config: ScheduleConfig, total_steps: int, steps_per_epoch: int) -> tuple[int, ...]:
    """The steps at which cycles end: with an epoch where there are enough of them, so that the
    snapshots of a run are taken at ends."""
    epochs = total_steps // steps_per_epoch
    if config.cycles <= epochs and epochs * steps_per_epoch == total_steps:
        return tuple(steps_per_epoch * epoch for epoch in even_points(epochs, config.cycles))
    return even_points(total_steps, config.cycles)
