from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainables.precision import FULL, Precision, PrecisionError, choose_precision, exact_arithmetic

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def flags() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def test_auto_is_full_precision_on_a_cpu() -> None:
    assert choose_precision("auto", CPU) == FULL
    assert not FULL.needs_scaler


@pytest.mark.parametrize(("generation", "expected"), [(9, "bf16"), (8, "bf16"), (7, "fp16")])
def test_auto_on_a_gpu_is_the_half_format_that_it_has(
    monkeypatch: pytest.MonkeyPatch, generation: int, expected: str
) -> None:
    """An older one can be made to answer in bf16, but slowly."""
    properties = SimpleNamespace(major=generation, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    chosen = choose_precision("auto", CUDA)
    assert chosen.format == expected
    assert chosen.needs_scaler == (expected == "fp16")


def test_what_is_asked_for_is_taken() -> None:
    assert choose_precision("bf16", CPU) == Precision("bf16")
    assert choose_precision("fp32", CUDA) == FULL
    assert choose_precision("fp16", CUDA).needs_scaler


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(PrecisionError, match="needs a GPU; use fp32, bf16 or auto"):
        choose_precision("fp16", CPU)


def test_bf16_really_computes_in_bf16_on_a_cpu_and_keeps_the_weights() -> None:
    layer = nn.Linear(4, 2)
    with Precision("bf16").autocast(CPU):
        assert layer(torch.ones(1, 4)).dtype == torch.bfloat16
    with FULL.autocast(CPU):
        assert layer(torch.ones(1, 4)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("before", [(True, True), (False, True), (False, False)])
def test_exact_arithmetic_is_without_tf32_and_restores_the_flags(
    before: tuple[bool, bool],
) -> None:
    was = flags()
    try:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
        with exact_arithmetic():
            assert flags() == (False, False)
        assert flags() == before
        with exact_arithmetic(False):
            assert flags() == before
        with pytest.raises(ZeroDivisionError), exact_arithmetic():
            raise ZeroDivisionError
        assert flags() == before
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = was
