"""What stands in for the cache where it has no room: the same squares, decoded when asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search_spaces.config import PreprocessConfig
from trainables.images import Pixels, in_threads, reading_threads, upright_size
from trainables.preprocess import AS_IT_IS, prepared_square


class DecodedSource:
    """N image files as `ImageCache` would hold them: `source[rows]` decodes (n, size, size, 3)
    uint8 RGB in a few threads, the same pixels as the cache's.

    `why`: one line for the user that says why there is no cache. `threads`: how many decode at
    once, None for one a usable core, or more for files of an object store. Those are fetched
    again in every epoch. Pickling carries the paths.
    """

    def __init__(
        self,
        paths: Sequence[str],
        size: int,
        preprocess: PreprocessConfig = AS_IT_IS,
        why: str = "",
        threads: int | None = None,
    ) -> None:
        self.paths = tuple(paths)
        self.size = size
        self.preprocess = preprocess
        self.why = why
        self.threads = threads or reading_threads(self.paths)
        self._aspects: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def aspects(self) -> npt.NDArray[np.float32]:
        """(N,) width / height of the upright originals. The first use reads every file's header."""
        if self._aspects is None:
            sizes = in_threads(upright_size, self.paths, self.threads)
            ratios = [width / height for width, height in sizes]
            self._aspects = np.asarray(ratios, dtype=np.float32)
        return self._aspects

    def __getitem__(self, rows: npt.ArrayLike) -> Pixels:
        """(n, size, size, 3) uint8. `rows`: indices or a mask (N,). Raises UnreadableImageError."""
        wanted = row_numbers(rows, len(self))
        return self.take(wanted, np.empty((len(wanted), self.size, self.size, 3), np.uint8))

    def take(self, rows: npt.ArrayLike, out: Pixels) -> Pixels:
        """As `source[rows]`, into `out` (n, size, size, 3) uint8, which is returned."""
        wanted = row_numbers(rows, len(self))
        check_out(out, len(wanted), self.size)

        def decode(at: int) -> None:
            path = self.paths[wanted[at]]
            out[at], _ = prepared_square(path, self.size, self.preprocess)

        for _ in in_threads(decode, range(len(wanted)), self.threads):
            pass
        return out


def row_numbers(rows: npt.ArrayLike, total: int) -> npt.NDArray[np.intp]:
    """Indices, negative ones from the end, or a mask (total,) as indices from 0. IndexError where
    one is out of range."""
    wanted = np.atleast_1d(np.asarray(rows))
    if wanted.dtype == np.bool_:
        if wanted.shape != (total,):
            raise IndexError(f"expected a mask ({total},), got {wanted.shape}")
        return np.flatnonzero(wanted)
    if wanted.size == 0:
        return np.empty(0, np.intp)
    if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
        raise IndexError(f"expected rows (n,) of integers, got {wanted.dtype} {wanted.shape}")
    lowest, highest = int(wanted.min()), int(wanted.max())
    if lowest < -total or highest >= total:
        raise IndexError(f"rows {lowest} to {highest} of {total} images")
    wanted = wanted.astype(np.intp, copy=False)
    return np.where(wanted < 0, wanted + total, wanted) if lowest < 0 else wanted


def check_out(out: Pixels, rows: int, size: int) -> None:
    """ValueError where `out` is not (rows, size, size, 3) uint8."""
    if out.shape != (rows, size, size, 3) or out.dtype != np.uint8:
        raise ValueError(
            f"expected out of ({rows}, {size}, {size}, 3) uint8, got {out.shape} {out.dtype}"
        )
