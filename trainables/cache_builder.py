"""One decode for two purposes: the check of the data looks at every image, the cache keeps it.

The cache file's name holds the data fingerprint, which is only known when all images were looked
at. So the file gets its name at the end, and rows that the check dropped go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from search_spaces.config import PreprocessConfig
from trainables.cache_bound import locked
from trainables.cache_writer import CacheWriter
from trainables.image_cache import NoRoom, begin_file, cache_path, images_key, lock_path
from trainables.preprocess import AS_IT_IS, prepared_square


class CacheBuilder:
    """A context: `store` each image in it, then `finish`. Left without `finish`, it leaves nothing.

    It stores nothing, and `store` only decodes, where there already is a cache of files of these
    names (most likely the same images), where another process is at it, or where there is no room:
    `ImageCache.open` deals with all of these.
    """

    def __init__(
        self,
        paths: Sequence[str],
        size: int,
        directory: Path,
        *,
        preprocess: PreprocessConfig = AS_IT_IS,
        limit_bytes: int | None = None,
    ) -> None:
        """Arguments as of `ImageCache.open`; `paths` of training and test images, in order."""
        self.paths = tuple(paths)
        self.size = size
        self.directory = Path(directory)
        self.preprocess = preprocess
        self.limit_bytes = limit_bytes
        self._stack = contextlib.ExitStack()
        self._writer: CacheWriter | None = None
        self._is_full = False

    def __enter__(self) -> CacheBuilder:
        key = images_key(self.paths, self.size, self.preprocess)
        if self.limit_bytes == 0 or any(self.directory.glob(f"*-{key}.npy")):
            return self
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"unnamed-{key}.npy"
        try:
            self._stack.enter_context(locked(lock_path(path), wait=False))
            self._writer = begin_file(path, len(self.paths), self.size, self.limit_bytes)
        except (BlockingIOError, NoRoom):
            self._stack.close()
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.abandon()
        self._stack.close()

    def store(self, row: int, content: bytes, name: str) -> None:
        """Decode one image file's bytes and keep the square. Threads may do so at once. Raises
        UnreadableImageError, as `decode_image`; such rows must not be among `finish`'s."""
        square, aspect = prepared_square(content, self.size, self.preprocess, name)
        if self._writer is None or self._is_full:
            return
        try:
            self._writer.put(row, square, aspect)
        except OSError:  # the disk filled up: go on looking
            # Other threads may be writing: the file is closed when all of them are done.
            self._is_full = True

    def finish(self, paths: Sequence[str], digest_key: str) -> None:
        """Give the file its name. `paths`: of the images that are left, in order. Every one of
        them was stored."""
        if self._writer is None or self._is_full:
            return
        writer, self._writer = self._writer, None
        rows = _rows_of(paths, self.paths)
        path = cache_path(self.directory, paths, self.size, digest_key, self.preprocess)
        if rows is None or path.exists():
            writer.abandon()
            return
        with contextlib.suppress(OSError):
            writer.complete(path, rows).close()


def _rows_of(kept: Sequence[str], paths: Sequence[str]) -> list[int] | None:
    """Ascending rows of `paths` that give `kept`; None where it is not what is left of them."""
    rows: list[int] = []
    for row, path in enumerate(paths):
        if len(rows) < len(kept) and path == kept[len(rows)]:
            rows.append(row)
    return rows if len(rows) == len(kept) else None
