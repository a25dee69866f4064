"""Decode once: every image of a run as one memory-mapped array of squares.

The file is built by one process while others wait on a lock, is renamed into place when complete
and is only read afterwards, so all processes of a machine share one copy in the page cache.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trainables.images import Pixels, in_threads, read_square

# Part of the file name: raise it when decoding or resizing changes what the pixels are.
FORMAT = 1

Progress = Callable[[int, int], None]


class ImageCache:
    """N images of one size. `cache[rows]` copies (n, size, size, 3) uint8 RGB out of the file.

    Pickling carries the path only: another process on the same machine maps the same file.
    """

    def __init__(self, path: str | Path) -> None:
        """Map a complete cache file. Most callers want `ImageCache.open`."""
        self.path = Path(path)
        self._pixels: Pixels = np.asarray(np.load(self.path, mmap_mode="r"))

    @classmethod
    def open(
        cls,
        paths: Sequence[str],
        size: int,
        directory: Path,
        digest_key: str,
        progress: Progress | None = None,
    ) -> ImageCache:
        """The cache of these images, in this order, built first where it is not there yet.

        `size`: side in pixels. `digest_key`: stands for the content of all images (the data
        fingerprint); the file is named by it, the paths and the size. `progress(done, total)` is
        called while building, never in a process that waits. Raises DataError for an image that
        cannot be decoded and OSError, with the file's name, when the disk has no room.
        """
        directory = Path(directory)
        path = directory / _file_name(paths, size, digest_key)
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            with _locked(_lock_path(path)):
                if not path.exists():  # else: built by another process while this one waited
                    _remove_stale(directory)
                    _build(path, paths, size, progress)
        return cls(path)

    def __len__(self) -> int:
        return len(self._pixels)

    @property
    def size(self) -> int:
        """Side of an image in pixels."""
        return int(self._pixels.shape[1])

    def __getitem__(self, rows: npt.ArrayLike) -> Pixels:
        """(n, size, size, 3) uint8, a copy that may be written. `rows`: indices or a mask (N,)."""
        wanted = np.atleast_1d(np.asarray(rows))
        if wanted.size == 0:
            wanted = wanted.astype(np.intp)
        return np.asarray(self._pixels[wanted])

    def __reduce__(self) -> tuple[type[ImageCache], tuple[Path]]:
        return (ImageCache, (self.path,))


def _file_name(paths: Sequence[str], size: int, digest_key: str) -> str:
    names = hashlib.sha256("\n".join(paths).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{digest_key}-{names}-{size}px-v{FORMAT}.npy"


def _build(path: Path, paths: Sequence[str], size: int, progress: Progress | None) -> None:
    """Decode everything into a temporary beside `path`, then rename it into place."""
    temporary = _temporary_path(path)
    try:
        with temporary.open("wb") as file:
            _write(file, paths, size, progress)
            file.flush()
            os.fsync(file.fileno())  # a power cut after the rename must not leave black images
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(error.filename or path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write(file: BinaryIO, paths: Sequence[str], size: int, progress: Progress | None) -> None:
    row_bytes = size * size * 3
    _check_room(file.name, len(paths) * row_bytes)
    header: dict[str, Any] = {
        "descr": "|u1",
        "fortran_order": False,
        "shape": (len(paths), size, size, 3),
    }
    np.lib.format.write_array_header_1_0(file, header)
    file.flush()
    start, descriptor = file.tell(), file.fileno()

    def write_one(row: int) -> None:
        # Written, not mapped: on a full disk a write fails, a mapped page kills the process.
        _write_at(descriptor, read_square(paths[row], size).tobytes(), start + row * row_bytes)

    for done, _ in enumerate(in_threads(write_one, range(len(paths))), start=1):
        if progress is not None:
            progress(done, len(paths))


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _check_room(file_name: str, needed_bytes: int) -> None:
    """Say so before an hour of decoding rather than after it."""
    free_bytes = shutil.disk_usage(Path(file_name).parent).free
    if free_bytes < needed_bytes:
        raise OSError(
            errno.ENOSPC,
            f"decoded images need {needed_bytes / 1e9:.1f} GB, the disk has "
            f"{free_bytes / 1e9:.1f} GB free; set data.cache_dir to another disk",
            file_name.removesuffix(".tmp"),
        )


def _remove_stale(directory: Path) -> None:
    """Delete what killed builders left. One whose lock is free has no builder; our own name's is
    ours, as we hold its lock, and is overwritten."""
    for temporary in directory.glob("*.npy.tmp"):
        cache = temporary.with_suffix("")
        with contextlib.suppress(BlockingIOError), _locked(_lock_path(cache), wait=False):
            temporary.unlink(missing_ok=True)


def _temporary_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp")


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on a file. The kernel frees it however the process ends; the file
    itself stays, since deleting it would let two processes lock two different files."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
