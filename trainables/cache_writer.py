"""A cache file while it is written: squares in any order and from many threads, then renamed.

The file is two .npy arrays one after the other: the squares (N, S, S, 3) uint8, which are mapped,
and the ratios width / height of the originals (N,) float32. It has its final name only when both
are complete and on the disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trainables.cache_bound import mark_in_use
from trainables.images import Pixels

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_HEADER_BYTES = 128  # of either array; numpy pads headers so that the first axis may change


def file_bytes(total: int, size: int) -> int:
    """Size of a cache file of `total` squares of side `size`."""
    return 2 * _HEADER_BYTES + total * (size * size * 3 + 4)


class CacheWriter:
    """`put` every row once, then `complete`; or `abandon`. OSError where the disk has no room,
    already on construction where the file system can reserve it."""

    def __init__(self, temporary: Path, total: int, size: int) -> None:
        self.temporary = temporary
        self._shape = (total, size, size, 3)
        self._row_bytes = size * size * 3
        self._aspects = np.ones(total, np.float32)
        self._file = temporary.open("w+b")
        try:
            self._write_header(self._shape, "|u1")
            _reserve(self._file, file_bytes(total, size))
        except BaseException:
            self.abandon()
            raise

    def put(self, row: int, square: Pixels, aspect: float) -> None:
        """Write one square (S, S, 3). Threads may do so at once."""
        # Written, not mapped: on a full disk a write fails, a mapped page kills the process.
        self._aspects[row] = aspect
        _write_at(self._file.fileno(), square.tobytes(), self._offset(row))

    def complete(self, path: Path, rows: Sequence[int] | None = None) -> BinaryIO:
        """Rename the file to `path` and return it, open and marked as in use. `rows`: of those put
        the ones that stay, ascending; None for all."""
        try:
            if rows is not None:
                self._keep(rows)
            end = self._offset(self._shape[0])
            self._file.truncate(end)
            self._file.seek(end)
            self._write_header((self._shape[0],), "<f4")
            self._file.write(self._aspects.astype("<f4").tobytes())
            self._file.flush()
            os.fsync(self._file.fileno())  # a power cut after the rename must not leave black
            mark_in_use(self._file)
            os.replace(self.temporary, path)
        except BaseException:
            self.abandon()
            raise
        return self._file

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self.temporary.unlink(missing_ok=True)

    def _keep(self, rows: Sequence[int]) -> None:
        """Move the rows that stay to the front."""
        descriptor = self._file.fileno()
        for to, row in enumerate(rows):
            if to != row:
                square = os.pread(descriptor, self._row_bytes, self._offset(row))
                _write_at(descriptor, square, self._offset(to))
        self._aspects = self._aspects[list(rows)]
        self._shape = (len(rows), *self._shape[1:])
        self._file.seek(0)
        self._write_header(self._shape, "|u1")

    def _offset(self, row: int) -> int:
        return _HEADER_BYTES + row * self._row_bytes

    def _write_header(self, shape: tuple[int, ...], kind: str) -> None:
        header: dict[str, Any] = {"descr": kind, "fortran_order": False, "shape": shape}
        start = self._file.tell()
        np.lib.format.write_array_header_1_0(self._file, header)
        self._file.flush()
        assert self._file.tell() - start == _HEADER_BYTES


def read_cache(file: BinaryIO) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """The squares, mapped and read-only, and the ratios. A file of squares alone, as `np.save`
    writes it, has ratios of 1. ValueError where it is not (N, S, S, 3) uint8."""
    shape, _, dtype = _read_header(file)
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or dtype != np.uint8:
        raise ValueError(f"{file.name}: expected (N, S, S, 3) uint8, got {shape} {dtype}")
    offset = file.tell()
    if shape[0] == 0:
        return np.empty(shape, np.uint8), np.empty(0, np.float32)
    # The map keeps a descriptor of its own, and with it the mark of being in use.
    pixels = np.asarray(np.memmap(file, np.uint8, "r", offset, shape))
    file.seek(offset + pixels.nbytes)
    if os.fstat(file.fileno()).st_size == file.tell():
        return pixels, np.ones(shape[0], np.float32)
    _read_header(file)
    ratios = file.read(4 * shape[0])
    if len(ratios) != 4 * shape[0]:
        raise ValueError(f"{file.name}: the ratios of the images are cut off; delete the file")
    return pixels, np.frombuffer(ratios, "<f4").astype(np.float32)


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    np.lib.format.read_magic(file)
    return np.lib.format.read_array_header_1_0(file)


def _reserve(file: BinaryIO, size_bytes: int) -> None:
    """Take the room now: a disk too small is found before an hour of decoding, and two builders
    do not count on the same bytes."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size_bytes)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise OSError(error.errno, error.strerror, file.name) from error
        # Else the file system cannot reserve; writing tells.


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
