"""Small numbers on their way to the device. What is copied there from ordinary memory waits until
the device has done all that it was given before: a whole step."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def sent(values: np.ndarray, device: torch.device) -> Tensor:
    """A copy on the device, for which nobody waits."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(n,) float32, made once and kept there: not to be written to."""
    with torch.inference_mode(False):  # else whoever asks first decides what may be done with it
        return torch.tensor(values, dtype=torch.float32, device=device)
