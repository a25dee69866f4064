"""Which number format a fold run computes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

Asked = Literal["auto", "fp32", "bf16", "fp16"]
Format = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class PrecisionError(ValueError):
    """A number format that the device does not train in: one line for the user."""


@dataclass(frozen=True)
class Precision:
    """`format` under autocast; weights stay float32. fp16 needs a gradient scaler."""

    format: Format = "fp32"

    @property
    def needs_scaler(self) -> bool:
        return self.format == "fp16"

    def autocast(self, device: torch.device) -> AbstractContextManager:
        if self.format == "fp32":
            return nullcontext()
        return torch.autocast(device.type, dtype=_DTYPES[self.format])


FULL = Precision("fp32")


def choose_precision(asked: Asked, device: torch.device) -> Precision:
    """`auto`: bf16 where the GPU has it, else fp16; fp32 on CPUs, where bf16 may be slower.

    Raises PrecisionError for fp16 on a CPU, which has no scaled training."""
    if asked == "fp16" and device.type == "cpu":
        raise PrecisionError("train.precision=fp16 needs a GPU; use fp32, bf16 or auto on a CPU")
    if asked != "auto":
        return Precision(asked)
    if device.type != "cuda":
        return FULL
    # Emulated, it is slower than float32.
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Precision("bf16" if has_bf16 else "fp16")


def fast_products(wanted: bool) -> None:
    """Float32 products with TF32's ten bits of mantissa on GPUs that have it. For a whole fold
    run; the next one in this process says so itself."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = wanted


@contextmanager
def exact_arithmetic(wanted: bool = True) -> Iterator[None]:
    """Full float32 on GPUs too: without TF32, whose ten bits of mantissa would show in the
    fourth digit of a probability. Does nothing where not `wanted`."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    if wanted:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
