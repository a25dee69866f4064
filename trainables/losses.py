"""Training losses: logits (N, C) float and class indices (N,) int64 in, a scalar out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from search_spaces.config import LossConfig

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_loss(config: LossConfig) -> Loss:
    """The loss a configuration asks for."""
    if config.name == "focal":
        return partial(focal_loss, gamma=config.focal_gamma, label_smoothing=config.label_smoothing)
    return partial(F.cross_entropy, label_smoothing=config.label_smoothing)


def focal_loss(
    logits: torch.Tensor, labels: torch.Tensor, *, gamma: float, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Mean of (1 - p_true)**gamma * cross entropy; gamma 0 is cross entropy.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv:1708.02002, eq. 4."""
    cross_entropy = F.cross_entropy(
        logits, labels, reduction="none", label_smoothing=label_smoothing
    )
    p_true = logits.softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    # Not 0: the slope of 0**gamma is infinite for gamma < 1, and a certain row's gradient NaN.
    doubt = (1.0 - p_true).clamp_min(torch.finfo(p_true.dtype).eps)
    return (doubt**gamma * cross_entropy).mean()
