"""Class probabilities of a model over cached images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from trainables.backbone import Normalisation
from trainables.loader import to_input
from trainables.precision import Precision


@torch.inference_mode()
def predict_probabilities(
    model: nn.Module,
    batches: Iterable[np.ndarray],
    normalisation: Normalisation,
    *,
    n_classes: int,
    device: torch.device,
    precision: Precision,
) -> np.ndarray:
    """Softmax in float32 over batches of (n, H, W, 3) uint8; returns (N, C) float32.

    The model is left in evaluation mode."""
    model.eval()
    parts = [np.empty((0, n_classes), np.float32)]
    for images in batches:
        with precision.autocast(device):
            logits = model(to_input(images, normalisation, device))
        parts.append(logits.float().softmax(dim=1).cpu().numpy())
    return np.concatenate(parts)
