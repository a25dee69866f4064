"""Decode once: every image of a run as one memory-mapped array of squares.

The file is built by one process while others wait on a lock, is renamed into place when complete
and is only read afterwards, so all processes of a machine share one copy in the page cache. Where
it has no room, images are decoded when asked for instead, to the same pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from search_spaces.config import PreprocessConfig
from trainables.cache_bound import locked, open_in_use, room_lock, why_no_room
from trainables.cache_writer import DISK_FULL, CacheWriter, file_bytes, read_cache
from trainables.decoded_source import DecodedSource, check_out, row_numbers
from trainables.images import Pixels, in_threads, read_bytes, reading_threads
from trainables.manifest import content_digest
from trainables.preprocess import AS_IT_IS, pixels_key, prepared_square

# Part of the file name: raise it when decoding or resizing changes what the pixels are.
FORMAT = 2

Progress = Callable[[int, int], None]
# Told the content digest of every file, in order; raises where they are not those it expected.
Verify = Callable[[Sequence[str]], None]

_log = logging.getLogger(__name__)


class ImageCache:
    """N images of one size. `cache[rows]` copies (n, size, size, 3) uint8 RGB out of the file.

    While one lives, its file is in use and not deleted to make room. Pickling carries the path
    only: another process on the same machine maps the same file.
    """

    why = ""  # nothing to tell the user; `DecodedSource` has a reason here

    def __init__(self, path: str | Path) -> None:
        """Map a complete cache file. Most callers want `ImageCache.open`."""
        self.path = Path(path)
        with open_in_use(self.path) as file:
            self._pixels, self.aspects = read_cache(file)

    @classmethod
    def open(
        cls,
        paths: Sequence[str],
        size: int,
        directory: Path,
        digest_key: str,
        progress: Progress | None = None,
        *,
        preprocess: PreprocessConfig = AS_IT_IS,
        limit_bytes: int | None = None,
        verify: Verify | None = None,
    ) -> ImageCache | DecodedSource:
        """The cache of these images, in this order, built first where it is not there yet.

        `size`: side in pixels. `digest_key`: stands for the content of all images (the data
        fingerprint); the file is named by it, the paths, the size and what of `preprocess` changes
        pixels. `progress(done, total)` is called while building, never in a process that waits.
        `limit_bytes` bounds all cache files of `directory` together: those that nobody uses are
        deleted, the longest unused first, until this one fits; None is half of what the disk would
        have free without them, 0 is for no cache at all. Where it does not fit, or the disk is
        full, a `DecodedSource` with its reason. `verify` is asked before a built cache counts.
        Raises DataError for an image that cannot be read or decoded and OSError, with the file's
        name, where nothing can be written.
        """
        if limit_bytes == 0:
            return _uncached(paths, size, preprocess, "data.cache_gb is 0: nothing is cached")
        directory = Path(directory)
        path = cache_path(directory, paths, size, digest_key, preprocess)
        while True:
            with contextlib.suppress(FileNotFoundError):
                return cls(path)
            directory.mkdir(parents=True, exist_ok=True)
            with _turn_to_build(path):
                if path.exists():  # built by another process while this one waited
                    continue
                try:
                    file = _build(path, paths, size, preprocess, limit_bytes, progress, verify)
                except NoRoom as error:
                    return _uncached(paths, size, preprocess, str(error))
                with file:  # still in use until it is mapped
                    return cls(path)

    def __len__(self) -> int:
        return len(self._pixels)

    @property
    def pixels(self) -> Pixels:
        """(N, size, size, 3) uint8 as it is mapped: to be read where it lies, never written."""
        return self._pixels

    @property
    def size(self) -> int:
        """Side of an image in pixels."""
        return int(self._pixels.shape[1])

    def __getitem__(self, rows: npt.ArrayLike) -> Pixels:
        """(n, size, size, 3) uint8, a copy that may be written. `rows`: indices or a mask (N,)."""
        wanted = row_numbers(rows, len(self))
        return np.asarray(self._pixels.take(wanted, axis=0))

    def take(self, rows: npt.ArrayLike, out: Pixels) -> Pixels:
        """As `cache[rows]`, into `out` (n, size, size, 3) uint8, which is returned. A large fresh
        array costs more than the copy into it: its pages have to be made first."""
        wanted = row_numbers(rows, len(self))
        check_out(out, len(wanted), self.size)
        if len(wanted):
            # Rows are in range by now; with mode="raise" numpy would copy twice.
            self._pixels.take(wanted, axis=0, out=out, mode="clip")
        return out

    def __reduce__(self) -> tuple[type[ImageCache], tuple[Path]]:
        return (ImageCache, (self.path,))


ImageSource: TypeAlias = ImageCache | DecodedSource


def aspects_of(
    source: ImageSource, rows: npt.NDArray[np.integer], preprocess: PreprocessConfig
) -> npt.NDArray[np.float32]:
    """(n,) width / height of the originals; ones where squashing makes nothing depend on it: to
    know it may mean to read every file."""
    if preprocess.resize == "squash":
        return np.ones(len(rows), np.float32)
    return source.aspects[rows]


class NoRoom(Exception):  # noqa: N818 (a finding, not an error)
    """The cache does not fit; one line that says why."""


def cache_path(
    directory: Path, paths: Sequence[str], size: int, digest_key: str, preprocess: PreprocessConfig
) -> Path:
    """Where the cache of these images lies."""
    return directory / f"{digest_key}-{images_key(paths, size, preprocess)}.npy"


def images_key(paths: Sequence[str], size: int, preprocess: PreprocessConfig) -> str:
    """The part of a file's name that does not depend on what the images contain."""
    names = hashlib.sha256("\n".join(paths).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    steps = pixels_key(preprocess)
    return f"{names}-{size}px-{steps}{'-' if steps else ''}v{FORMAT}"


def lock_path(path: Path) -> Path:
    """Who holds this builds `path`."""
    return path.with_name(f"{path.name}.lock")


def begin_file(path: Path, total: int, size: int, limit_bytes: int | None) -> CacheWriter:
    """Make room for a cache file, take it, and open the file beside `path`. The caller holds the
    lock of `path`. Raises NoRoom."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # a killed builder's: we hold its lock
    _remove_stale(path.parent)
    with room_lock(path.parent):
        why = why_no_room(path.parent, file_bytes(total, size), limit_bytes)
        if why:
            raise NoRoom(why)
        with _full_disk(path):
            return CacheWriter(temporary, total, size)


def _build(
    path: Path,
    paths: Sequence[str],
    size: int,
    preprocess: PreprocessConfig,
    limit_bytes: int | None,
    progress: Progress | None,
    verify: Verify | None,
) -> BinaryIO:
    """Decode everything into a temporary beside `path`, then rename it into place."""
    writer = begin_file(path, len(paths), size, limit_bytes)
    begun = time.monotonic()

    def write_one(row: int) -> str:
        source: str | bytes = paths[row]
        digest = "" if verify is None else content_digest(source := read_bytes(paths[row]))
        writer.put(row, *prepared_square(source, size, preprocess, paths[row]))
        return digest

    try:
        with _full_disk(path):
            digests = []
            for digest in in_threads(write_one, range(len(paths)), reading_threads(paths)):
                digests.append(digest)
                if progress is not None:
                    progress(len(digests), len(paths))
            if verify is not None:
                verify(digests)
            file = writer.complete(path)
    except BaseException:
        writer.abandon()
        raise
    _log.info("decoded %d images into %s: %.0f s", len(paths), path, time.monotonic() - begun)
    return file


@contextlib.contextmanager
def _turn_to_build(path: Path) -> Iterator[None]:
    """One process of a machine decodes, the others wait, and their logs say for what."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(lock_path(path), wait=False))
        except BlockingIOError:
            _log.info("another process of this machine decodes the images: waiting for it")
            stack.enter_context(locked(lock_path(path)))
        yield


def _uncached(
    paths: Sequence[str], size: int, preprocess: PreprocessConfig, why: str
) -> DecodedSource:
    """With the reason, and what it means where each epoch goes through a network."""
    if reading_threads(paths) is not None:
        why += "; so every epoch fetches every image from its store again, which is slow"
    _log.info("%s", why)
    return DecodedSource(paths, size, preprocess, why)


@contextlib.contextmanager
def _full_disk(path: Path) -> Iterator[None]:
    """A disk or quota that is full is no room; any other OSError names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise NoRoom(
                f"{path.parent}: the disk filled up while images were decoded ({error.strerror}); "
                "set data.cache_dir to another disk"
            ) from error
        raise OSError(error.errno, error.strerror, str(error.filename or path)) from error


def _remove_stale(directory: Path) -> None:
    """Delete what killed builders left. One whose lock is free has no builder."""
    for temporary in directory.glob("*.npy.tmp"):
        with (
            contextlib.suppress(BlockingIOError),
            locked(lock_path(temporary.with_suffix("")), wait=False),
        ):
            temporary.unlink(missing_ok=True)
