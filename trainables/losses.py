"""Training losses: what a model answers and its targets in, a scalar out.

Every loss that is not a margin loss is written as a table: the loss (N, C) of each row under each
label that it could have. Soft targets take the mean of a row's losses under its labels, which is
how mixup and cutmix define theirs (Zhang et al. 2018, arXiv:1710.09412; Yun et al. 2019,
arXiv:1905.04899), and on one-hot targets they agree with class indices.

A loss is a plain mean over rows: the mean of micro-batches' losses is that of the batch. AdaFace
alone is not (see `margin_losses.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.config import LossConfig
from trainables.composed import Cosines
from trainables.margin_losses import adaface_logits, arcface_logits

Loss: TypeAlias = Callable[[Any, Tensor], Tensor]
"""(output, targets) -> scalar float32. Output: logits (N, C), or Cosines for a margin loss.
Targets: class indices (N,) int64, or shares of the classes (N, C) float, rows summing to 1."""

LossTable: TypeAlias = Callable[[Tensor], Tensor]
MarginLogits: TypeAlias = Callable[[Cosines, Tensor], Tensor]


def build_loss(config: LossConfig, class_counts: np.ndarray) -> Loss:
    """The loss a configuration asks for.

    `class_counts`: (C,) int, how many training images each class has; used for `class_balance`."""
    weights = None
    if config.class_balance:
        weights = torch.from_numpy(effective_number_weights(class_counts, config.class_balance))
    if config.has_margin:
        return MarginLoss(_margin_of(config), weights, label_smoothing=config.label_smoothing)
    return TableLoss(_table_of(config), weights)


class WeightedLoss:
    """A loss with a weight a class, (C,) float32, or None for equal ones."""

    def __init__(self, weights: Tensor | None) -> None:
        self._weights = weights

    def weights_on(self, device: torch.device) -> Tensor | None:
        """Moved once: a copy at every step would make the device wait."""
        if self._weights is not None:
            self._weights = self._weights.to(device)
        return self._weights


class TableLoss(WeightedLoss):
    """The mean over rows of a table's losses under a row's labels, each times its class's weight
    and, of soft targets, its share."""

    def __init__(self, table: LossTable, weights: Tensor | None = None) -> None:
        super().__init__(weights)
        self._table = table

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        losses, weights = self._table(logits), self.weights_on(logits.device)
        if weights is not None:
            losses = losses * weights
        if targets.ndim == 1:
            return losses.gather(1, targets[:, None]).mean()
        return (losses * targets).sum(dim=1).mean()


class MarginLoss(WeightedLoss):
    """The mean over rows of cross entropy, times the weight of the row's class, over logits that a
    margin made harder. A margin needs one label a row: ValueError for soft targets."""

    def __init__(
        self, logits_of: MarginLogits, weights: Tensor | None = None, *, label_smoothing: float = 0
    ) -> None:
        super().__init__(weights)
        self._logits_of, self._smoothing = logits_of, label_smoothing

    def __call__(self, output: Cosines, labels: Tensor) -> Tensor:
        if labels.ndim != 1:
            raise ValueError(
                f"a margin loss needs class indices (N,), got targets {tuple(labels.shape)}; "
                "set augment.mixup=0 and augment.cutmix=0"
            )
        logits = self._logits_of(output, labels)
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self._smoothing)
        weights = self.weights_on(logits.device)
        return (losses if weights is None else losses * weights[labels]).mean()


def cross_entropy_table(logits: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """(N, C): (1 - s) * -log p_y + s * mean over classes k of -log p_k, for each label y.

    Source: Szegedy et al. 2016, Rethinking the Inception Architecture, arXiv:1512.00567, sec. 7;
    s 0 is cross entropy. `logits`: (N, C), computed in at least float32."""
    minus_log = -at_least_float32(logits).log_softmax(dim=1)
    if not label_smoothing:
        return minus_log
    mean = minus_log.mean(dim=1, keepdim=True)
    return (1.0 - label_smoothing) * minus_log + label_smoothing * mean


def focal_table(logits: Tensor, *, gamma: float, label_smoothing: float = 0.0) -> Tensor:
    """(N, C): (1 - p_y)**gamma * cross entropy, for each label y; gamma 0 is cross entropy.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv:1708.02002, eq. 4. The
    smoothing acts on the cross entropy, not on the factor."""
    logits = at_least_float32(logits)
    p = logits.softmax(dim=1)
    # Not 0: the slope of 0**gamma is infinite for gamma < 1, and a certain row's gradient NaN.
    doubt = (1.0 - p).clamp_min(torch.finfo(p.dtype).eps)
    return doubt**gamma * cross_entropy_table(logits, label_smoothing=label_smoothing)


def cross_entropy_focal_table(
    logits: Tensor, *, share: float, gamma: float, label_smoothing: float = 0.0
) -> Tensor:
    """(N, C): (1 - share) * cross entropy + share * focal loss; share 0 is the one, 1 the other."""
    focal = focal_table(logits, gamma=gamma, label_smoothing=label_smoothing)
    return torch.lerp(cross_entropy_table(logits, label_smoothing=label_smoothing), focal, share)


def bce_table(logits: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """(N, C): the binary cross entropies of all classes, summed, for each label y:

        sum over k of -t_k log sigmoid(x_k) - (1 - t_k) log(1 - sigmoid(x_k)),
        t_k = (1 - s) [k = y] + s / C

    Source: Wightman et al. 2021, ResNet Strikes Back, arXiv:2110.00476. As timm's
    BinaryCrossEntropy with sum_classes=True: summed, not averaged, so that the gradient of a logit
    is t_k - p_k as in cross entropy, and learning rates and clipping stay what they were."""
    logits = at_least_float32(logits)
    # -t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)) is softplus(x) - t x.
    none_of_them = F.softplus(logits).sum(dim=1, keepdim=True)
    smoothed = label_smoothing * logits.mean(dim=1, keepdim=True)
    return none_of_them - (1.0 - label_smoothing) * logits - smoothed


def effective_number_weights(class_counts: np.ndarray, beta: float) -> np.ndarray:
    """(C,) float32: each class's (1 - beta) / (1 - beta**n), times what makes the mean over the
    training rows 1, so that a learning rate means the same with and without them.

    Source: Cui et al. 2019, Class-Balanced Loss, arXiv:1901.05555, sec. 4 (there they sum to C).
    beta 0 gives equal weights, beta to 1 gives 1 / n. `class_counts`: (C,) int; a class without
    images is weighted like one of one image, which no training row sees."""
    counts = np.asarray(class_counts, dtype=np.float64)
    present = np.maximum(counts, 1.0)
    # 1 - beta**n loses its digits near beta 1.
    effective = np.expm1(present * np.log(beta)) / (beta - 1.0) if beta else np.ones_like(present)
    weights = 1.0 / effective
    return (weights * counts.sum() / (counts @ weights)).astype(np.float32)


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision as float32: a loss in bfloat16 has two digits."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _table_of(config: LossConfig) -> LossTable:
    smoothing = config.label_smoothing
    if config.name == "bce":
        return partial(bce_table, label_smoothing=smoothing)
    if config.name == "focal":
        return partial(focal_table, gamma=config.focal_gamma, label_smoothing=smoothing)
    if config.name == "cross_entropy_focal":
        return partial(
            cross_entropy_focal_table,
            share=config.focal_share,
            gamma=config.focal_gamma,
            label_smoothing=smoothing,
        )
    return partial(cross_entropy_table, label_smoothing=smoothing)


def _margin_of(config: LossConfig) -> MarginLogits:
    if config.name == "arcface":
        return partial(arcface_logits, margin=config.margin, scale=config.scale)
    return partial(
        adaface_logits, margin=config.margin, scale=config.scale, concentration=config.adaface_h
    )
