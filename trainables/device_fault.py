"""A GPU that is lost to this process: after an illegal address or a failed assertion on the device,
every later call fails too, and only a new process has a device again."""

from __future__ import annotations

import torch

from trainables.memory import is_out_of_memory


class DeviceLostError(RuntimeError):
    """CUDA is of no more use to this process, which has to end."""


def is_lost(error: BaseException) -> bool:
    """Whether `error` means that, or came because of it. Memory that ran out comes back."""
    if isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error):
        return True
    return not _answers()


def device_lost(error: BaseException) -> DeviceLostError:
    """In one line: torch's own text goes on with advice to its developers."""
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return DeviceLostError(f"{first}; the GPU is lost to this process, so it ends")


def _answers() -> bool:
    """Libraries above CUDA have errors of their own for what hit them: ask CUDA itself."""
    if not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True
