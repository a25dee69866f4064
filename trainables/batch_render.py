"""Whole batches from the cache: in threads, into memory that is used again."""

from __future__ import annotations

import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from trainables.cpu_augment import Job, bytes_job, render_job
from trainables.draws import Draws
from trainables.image_cache import ImageSource
from trainables.images import Pixels
from trainables.mixing import Mix
from trainables.recipe import Channels

Rows = npt.NDArray[np.integer]
PARTS = 3  # of a batch for each thread


class BufferPool:
    """Arrays whose memory is handed out again when nobody holds it any longer.

    A fresh large array costs more than filling it: the system clears its pages one by one. Whoever
    holds an array, a view of it, or a tensor over it, keeps it from being handed out."""

    def __init__(self) -> None:
        self._slots: list[tuple[np.ndarray, weakref.ref[np.ndarray]]] = []

    def __len__(self) -> int:
        """How many arrays there are."""
        return len(self._slots)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """A C-contiguous array of anything."""
        count = int(np.prod(shape))
        needed = max(1, count) * np.dtype(dtype).itemsize
        free = [at for at, (_, user) in enumerate(self._slots) if user() is None]
        fitting = [at for at in free if self._slots[at][0].nbytes >= needed]
        memory = self._slots[fitting[0]][0] if fitting else np.empty(needed, np.uint8)
        # The base of every later view is this array, not `memory`: numpy does not look through
        # a buffer.
        base = np.frombuffer(memoryview(memory), dtype, count)  # type: ignore[arg-type]
        # One that is too small gives way.
        at = (fitting or free or [len(self._slots)])[0]
        self._slots[at : at + 1] = [(memory, weakref.ref(base))]
        return base.reshape(shape)


class BatchRenderer:
    """Batches of inputs from stored squares and draws. Not for two callers at once; its threads
    do not travel to another process."""

    def __init__(
        self, size: int, mean: Channels, std: Channels, fill: int = 0, n_threads: int = 1
    ) -> None:
        """`size`: side of the output in pixels; `mean`, `std`: of channels in [0, 1]; `fill`: grey
        value outside; `n_threads`: parts of a batch made at once, this thread's own counted."""
        self._size, self._mean, self._std, self._fill = size, mean, std, fill
        self._n_threads = max(1, n_threads)
        self._pool = BufferPool()
        self._threads: ThreadPoolExecutor | None = None

    def render_batch(
        self, source: ImageSource | Pixels, rows: Rows, draws: Draws, mix: Mix | None = None
    ) -> torch.Tensor:
        """(n, 3, size, size) float32, channels last: see `cpu_augment.render`. Its memory is used
        again when the tensor is gone, not before."""
        squares, chosen = self._squares(source, rows)
        out = self._pool.take((len(rows), self._size, self._size, 3), np.float32)
        job = render_job(
            squares, draws, self._mean, self._std, self._fill, out, rows=chosen, mix=mix
        )
        self._run(job)
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def byte_batch(
        self, source: ImageSource | Pixels, rows: Rows, draws: Draws | None = None
    ) -> torch.Tensor:
        """(n, size, size, 3) uint8: geometry, colour and erasing; without `draws` the stored
        squares as they are, whatever their size."""
        if draws is None or (draws.is_identity and _side(source) == self._size):
            return torch.from_numpy(self._gathered(source, rows))
        squares, chosen = self._squares(source, rows)
        out = self._pool.take((len(rows), self._size, self._size, 3), np.uint8)
        self._run(bytes_job(squares, draws, self._fill, out, self._mean, rows=chosen))
        return torch.from_numpy(out)

    def _squares(self, source: ImageSource | Pixels, rows: Rows) -> tuple[Pixels, np.ndarray]:
        """Squares and rows of them: read where they lie if they are mapped, else copied."""
        mapped = source if isinstance(source, np.ndarray) else getattr(source, "pixels", None)
        if mapped is not None:
            return mapped, np.asarray(rows, np.int64)
        return self._gathered(source, rows), np.arange(len(rows))

    def _gathered(self, source: ImageSource | Pixels, rows: Rows) -> Pixels:
        side = _side(source)
        out = self._pool.take((len(rows), side, side, 3), np.uint8)
        if isinstance(source, np.ndarray):
            return source.take(rows, axis=0, out=out, mode="clip")
        return source.take(rows, out)

    def _run(self, job: Job) -> None:
        """Threads take the next part when they are free, and one that has not woken up by the end
        is not waited for: a small batch is done in less time than that can take."""
        if self._n_threads == 1 or job.size < 2:
            job.run(0, job.size)
            return
        count = min(PARTS * self._n_threads, job.size)
        parts = deque(pairwise(np.linspace(0, job.size, count + 1).astype(int).tolist()))
        helpers = [
            self._pool_of_threads().submit(_work, job, parts) for _ in range(self._n_threads - 1)
        ]
        try:
            _work(job, parts)
        finally:
            for helper in helpers:
                if not helper.cancel():
                    helper.result()

    def _pool_of_threads(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._n_threads - 1, "render")
        return self._threads


def _work(job: Job, parts: deque[tuple[int, int]]) -> None:
    while True:
        try:
            part = parts.popleft()
        except IndexError:
            return
        job.run(*part)


def _side(source: ImageSource | Pixels) -> int:
    return int(source.shape[1]) if isinstance(source, np.ndarray) else source.size
