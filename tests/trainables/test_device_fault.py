from __future__ import annotations

import pytest
import torch

from trainables.device_fault import device_lost, is_lost

ILLEGAL = torch.AcceleratorError(
    "CUDA error: an illegal memory access was encountered\n"
    "Search for `cudaErrorIllegalAddress' in https://docs.nvidia.com for more information.\n"
    "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)


def test_an_illegal_address_is_a_lost_device_and_memory_that_ran_out_is_not() -> None:
    assert is_lost(ILLEGAL)
    assert is_lost(torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert not is_lost(torch.AcceleratorError("CUDA error: out of memory"))
    assert not is_lost(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_lost(ValueError("a mistake of ours"))


def test_where_cuda_answers_no_more_any_error_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS and cuDNN say it in words of their own."""

    def synchronize() -> None:
        raise ILLEGAL

    error = RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert not is_lost(error)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert is_lost(error)


def test_it_is_told_in_one_line() -> None:
    assert str(device_lost(ILLEGAL)) == (
        "CUDA error: an illegal memory access was encountered; the GPU is lost to this process, "
        "so it ends"
    )
    assert str(device_lost(RuntimeError())).startswith("RuntimeError; the GPU is lost")
