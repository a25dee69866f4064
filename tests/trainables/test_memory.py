from __future__ import annotations

import gc
import weakref

import pytest
import torch

from trainables.memory import halved_until_it_fits, is_out_of_memory, release_all_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("x"), True),
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be …"), True),
        (RuntimeError("cuDNN error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …"), True),
        (
            RuntimeError(
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
            ),
            True,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (
            RuntimeError("GET was unable to find an engine to execute this computation"),
            True,
        ),
        (RuntimeError("size mismatch"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling …"), False),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_running_out_of_memory_is_known_by_class_or_words(
    error: RuntimeError, expected: bool
) -> None:
    assert is_out_of_memory(error) is expected


def test_what_does_not_fit_is_done_again_with_half() -> None:
    tried: list[int] = []

    def action(size: int) -> str:
        tried.append(size)
        if size > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return f"done with {size}"

    assert halved_until_it_fits(action, 25, CPU) == ("done with 3", 3)
    assert tried == [25, 12, 6, 3]
    assert halved_until_it_fits(action, 2, CPU) == ("done with 2", 2)


def test_what_does_not_fit_at_its_least_is_an_error_and_so_is_any_other() -> None:
    tried: list[int] = []

    def hungry(size: int) -> None:
        tried.append(size)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        halved_until_it_fits(hungry, 7, CPU, least=2)
    assert tried == [7, 3, 2]

    def wrong(size: int) -> None:
        tried.append(size)
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        halved_until_it_fits(wrong, 7, CPU)
    assert tried[3:] == [7]


def test_what_failed_is_gone_when_it_is_tried_again() -> None:
    """Else its activations would take the room of the smaller attempt."""
    held: list[weakref.ref[torch.Tensor]] = []

    def action(size: int) -> bool:
        if size > 4:
            activations = torch.ones(size)
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return held[0]() is None

    gc.disable()
    try:
        assert halved_until_it_fits(action, 8, CPU) == (True, 4)
    finally:
        gc.enable()


@pytest.mark.parametrize("started", [True, False])
def test_all_memory_is_released_only_where_a_gpu_was_used(
    monkeypatch: pytest.MonkeyPatch, started: bool
) -> None:
    released: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: started)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: released.append(True))
    release_all_memory()
    assert released == [True] * started
