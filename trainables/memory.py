"""The device's memory: when it ran out, how to give it back, and trying again with less."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

# What libraries below torch say instead of using its class, in lower case.
WORDS = (
    "out of memory",
    "can't allocate memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "device_allocation_failed",  # cuDNN 9's longer name for it
    "unable to find an engine to execute",  # every one of cuDNN's wanted more than there was
)


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has a class for it, some libraries below only a sentence."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in WORDS)


def release_memory(device: torch.device) -> None:
    """Give the device what torch holds and does not use, so that pieces of another size fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def release_all_memory() -> None:
    """As `release_memory`, of whatever is no longer reached, for other processes on the GPU."""
    if torch.cuda.is_initialized():
        gc.collect()  # a compiled model, for one, refers to itself
        torch.cuda.empty_cache()


def halved_until_it_fits(
    action: Callable[[int], Result], size: int, device: torch.device, least: int = 1
) -> tuple[Result, int]:
    """`action(size)`, done again with half of it, `least` at the end, whenever memory runs out.
    Returns its result and the size that fitted; raises where not even `least` does."""
    while True:
        try:
            return action(size), size
        except RuntimeError as error:
            if size <= least or not is_out_of_memory(error):
                raise
        # Outside of `except`: the traceback holds what was computed until then.
        size = max(least, size // 2)
        release_memory(device)
