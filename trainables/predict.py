"""Class probabilities of a model over the views of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainables.backbone import Normalisation
from trainables.on_device import constant
from trainables.precision import Precision

Average = Literal["probabilities", "logits"]


@torch.inference_mode()
def predict_probabilities(
    model: nn.Module,
    batches: Iterable[Iterable[np.ndarray]],
    normalisation: Normalisation,
    *,
    n_classes: int,
    device: torch.device,
    precision: Precision,
    average: Average = "probabilities",
    channels_last: bool = True,
    after_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """(N, C) float32. `batches`: of each batch its views, (n, H, W, 3) uint8 each.

    The mean over the views is of probabilities, or of log-probabilities (normalised again), which
    is the softmax of the mean of the logits. All in float32. `after_batch(n)` is called after each
    batch. The model is left in evaluation mode."""
    model.eval()
    found = [np.empty((0, n_classes), np.float32)]
    for views in batches:
        logits = []
        for images in views:
            inputs = to_input(images, normalisation, device, channels_last=channels_last)
            with precision.autocast(device):
                logits.append(model(inputs))
        found.append(mean_of_views(torch.stack([one.float() for one in logits]), average))
        if after_batch:
            after_batch(len(found[-1]))
    return np.concatenate(found)


def mean_of_views(logits: Tensor, average: Average) -> np.ndarray:
    """(V, n, C) float32 logits of V views to (n, C) float32 probabilities."""
    if average == "logits":
        return logits.log_softmax(dim=2).mean(dim=0).softmax(dim=1).cpu().numpy()
    return logits.softmax(dim=2).mean(dim=0).cpu().numpy()


def to_input(
    images: np.ndarray,
    normalisation: Normalisation,
    device: torch.device,
    *,
    channels_last: bool = True,
) -> Tensor:
    """(n, H, W, 3) uint8 to normalised (n, 3, H, W) float32 on the device."""
    raw = torch.from_numpy(images)
    if device.type == "cuda":
        raw = raw.pin_memory().to(device, non_blocking=True)
    scaled = raw.permute(0, 3, 1, 2).to(torch.float32)
    mean = constant(normalisation.mean, device).view(1, 3, 1, 1) * 255.0
    std = constant(normalisation.std, device).view(1, 3, 1, 1) * 255.0
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return ((scaled - mean) / std).contiguous(memory_format=layout)
