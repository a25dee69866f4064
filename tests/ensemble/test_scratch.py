from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from ensemble.scratch import empty_array


def test_a_small_array_is_in_memory() -> None:
    array = empty_array((3, 4), np.float32)
    assert not isinstance(array, np.memmap)
    assert (array.shape, array.dtype) == ((3, 4), np.float32)


def test_a_large_array_lies_in_a_file_that_nobody_sees(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    array = empty_array((10, 5), np.float64, memory_bytes=399)
    assert isinstance(array, np.memmap)
    array[:] = np.arange(50.0).reshape(10, 5)
    assert array.sum() == 1225
    assert array.flags.c_contiguous
    assert os.listdir(str(tmp_path)) == []


def test_nothing_is_an_array_too() -> None:
    assert empty_array((0, 5), np.float32, memory_bytes=0).shape == (0, 5)


def test_a_full_disk_is_an_error_at_once_and_not_a_crash_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        empty_array((10, 5), np.float64, memory_bytes=0)
