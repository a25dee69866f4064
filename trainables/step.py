"""One step of the optimizer: forward and backward over micro-batches, and what to do when memory
runs out."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from search_spaces.config import OptimizerConfig, TrainConfig
from trainables.losses import Loss
from trainables.memory import is_out_of_memory, release_memory
from trainables.penalties import penalty
from trainables.precision import Precision


class Stepper:
    """Takes optimizer steps on whole batches, at most `micro_batch` images through the model at
    once. `forward`: the model as it is called in training (it may be compiled)."""

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[[Tensor], Tensor],
        loss: Loss,
        optimizer: Optimizer,
        *,
        train: TrainConfig,
        penalties: OptimizerConfig,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision.needs_scaler)
        self.micro_batch = min(train.micro_batch or train.batch_size, train.batch_size)
        self._forward, self._loss = forward, loss
        self._clip_grad = train.clip_grad
        self._penalties = penalties
        self._precision, self._device = precision, device

    def step(self, inputs: Tensor, targets: Tensor, seed: int) -> Tensor:
        """One optimizer step on a batch; returns its mean loss, detached, without penalties.

        `inputs`: (n, 3, H, W) float32; `targets`: (n,) int64 or (n, C) float32; `seed`: of dropout
        and its like. When the device's memory runs out the micro-batch is halved and the batch is
        done again, with the same seed; the mean of the gradients stays that of the whole batch."""
        while True:
            try:
                loss = self._accumulate(inputs, targets, seed)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if not self._halve(len(inputs)):
                    raise
            # Outside of `except`: the traceback holds the activations of the step that failed.
            self._forget()
        self._apply()
        return loss

    def _accumulate(self, inputs: Tensor, targets: Tensor, seed: int) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(seed)
        total = torch.zeros((), device=self._device)
        for part in micro_batches(len(inputs), self.micro_batch):
            with self._precision.autocast(self._device):
                output = self._forward(inputs[part])
            share = (part.stop - part.start) / len(inputs)
            loss = self._loss(output, targets[part]) * share
            total += loss.detach()
            self.scaler.scale(loss).backward()
        self._add_penalties()
        return total

    def _add_penalties(self) -> None:
        """Once a step, whatever the micro-batches."""
        chosen = self._penalties
        if chosen.l1 or chosen.l2:
            self.scaler.scale(penalty(self.model, chosen.l1, chosen.l2)).backward()

    def _apply(self) -> None:
        if self._clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _halve(self, batch: int) -> bool:
        """Whether there was anything to halve."""
        used = min(self.micro_batch, batch)
        if used < 2:
            return False
        self.micro_batch = used // 2
        return True

    def _forget(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        release_memory(self._device)


def micro_batches(n: int, size: int) -> list[slice]:
    """As few slices of at most `size` rows as there can be, of lengths that differ by at most one:
    so batch norm never sees a single row where it could see two."""
    count = max(1, math.ceil(n / size))
    cuts = [round(n * part / count) for part in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(cuts)]
