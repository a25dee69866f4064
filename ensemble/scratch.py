"""Room for large arrays: in memory up to a bound, in a file without a name beyond it.

A memory-mapped file counts as page cache, which the kernel may take back under pressure, where the
same array on the heap would end the process.
"""

from __future__ import annotations

import os
import tempfile

import numpy as np
from numpy.typing import DTypeLike

MEMORY_BYTES = 4 * 2**30  # of one array


def empty_array(
    shape: tuple[int, ...], dtype: DTypeLike, *, memory_bytes: int = MEMORY_BYTES
) -> np.ndarray:
    """An uninitialised C-contiguous array. More than `memory_bytes` are mapped from a file in the
    folder for temporary files, which goes away with the array. Raises OSError where that folder
    is full: point TMPDIR to a disk with room."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= memory_bytes or size == 0:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="foldblend-") as file:
        # Reserve the room now: a full disk met while writing to the mapping would be a SIGBUS.
        _reserve(file.fileno(), size)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS
        os.ftruncate(descriptor, size)
