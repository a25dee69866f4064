"""Images that show the same picture: re-encoded, resized, brighter or darker copies.

A 63-bit perceptual hash names candidates: which low frequencies of the grey picture are above
their median (the DCT hash of Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash
Functions, section 3.2.1). Every pair of hashes is compared, so none within the distance is missed.
Pictures on plain paper hash alike without being alike: a pair counts only when the grey
thumbnails agree pixel by pixel, measured in the pictures' own contrast, and so do their colours.

Rotated and mirrored copies are not looked for: that is eight times the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

Progress = Callable[[int, int], None]

MAX_DISTANCE = 10  # bits of 63; unrelated photos differ in about 31, and always in an even number
MAX_DIFFERENCE = 0.08  # a JPEG of quality 40 costs 0.02 to 0.07; two different digits 0.1 or more
MAX_PAIRS = 100_000
MIN_CONTRAST = 4.0  # grey levels: below it noise is all there is to compare
MAX_CONTRAST_RATIO = 1.5
MAX_COLOUR_DIFFERENCE = 12.0  # levels of mean Cr and Cb, which brightness leaves alone

_SIDE = 32
_FREQUENCIES = 8
_IMAGES_AT_ONCE = 64
_PAIRS_AT_ONCE = 2048


class Images(Protocol):
    """(N, H, W, 3) uint8 RGB, as an array, a memory-mapped one or an `ImageCache`."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: npt.NDArray[np.intp], /) -> npt.NDArray[np.uint8]: ...


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """P pairs of rows, those with different labels first, then by distance, then by row.

    pair_a, pair_b  (P,) row indices, pair_a < pair_b
    distance        (P,) int64, bits in which the hashes differ, 0 to 63
    same_label      (P,) bool
    found           how many pairs there were; more than P when only the first were kept
    flat            (F,) rows of images without contrast, which were not compared
    """

    pair_a: npt.NDArray[np.int64]
    pair_b: npt.NDArray[np.int64]
    distance: npt.NDArray[np.int64]
    same_label: npt.NDArray[np.bool_]
    found: int
    flat: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """What is compared of N images: hash (N,) uint64, grey (N, 1024) uint8, its mean and contrast
    (standard deviation) (N,) float32, mean Cr and Cb (N, 2) float32."""

    hash: npt.NDArray[np.uint64]
    grey: npt.NDArray[np.uint8]
    mean: npt.NDArray[np.float32]
    contrast: npt.NDArray[np.float32]
    colour: npt.NDArray[np.float32]


def near_duplicates(
    images: Images,
    labels: npt.NDArray[np.integer],
    *,
    max_distance: int = MAX_DISTANCE,
    max_difference: float = MAX_DIFFERENCE,
    max_pairs: int = MAX_PAIRS,
    progress: Progress | None = None,
) -> NearDuplicates:
    """All pairs of images whose hashes differ in at most `max_distance` bits and whose grey
    thumbnails, brought to mean 0 and standard deviation 1, differ by at most `max_difference` on
    average; of more than `max_pairs` the first in the order of the result.

    `labels` (N,) of the first N `images`; a cache's test images, which follow, are left out. They
    are read once, in order, a few at a time; what stays is 1 KiB an image. `progress(done, N)` is
    called while reading. Comparing takes time with the square of N (2 s for 50,000) and 3 µs a
    pair of like hashes. Raises ValueError for other shapes or types.
    """
    if labels.ndim != 1 or len(labels) > len(images):
        raise ValueError(
            f"expected labels (rows,) of at most {len(images)} images, got {labels.shape}"
        )
    thumbnails = make_thumbnails(images, len(labels), progress)
    is_flat = thumbnails.contrast < MIN_CONTRAST
    kept = _Closest(labels, max_pairs)
    for a, b, distance in _candidates(thumbnails.hash, np.flatnonzero(~is_flat), max_distance):
        alike = _alike(thumbnails, a, b, max_difference)
        kept.add(a[alike], b[alike], distance[alike])
    return kept.result(np.flatnonzero(is_flat).astype(np.int64))


def make_thumbnails(images: Images, total: int, progress: Progress | None = None) -> Thumbnails:
    """The thumbnails and hashes of the first `total` images. Raises ValueError for another shape or
    type than (…, height, width, 3) uint8."""
    grey = np.empty((total, _SIDE, _SIDE), np.uint8)
    mean, contrast = np.empty(total, np.float32), np.empty(total, np.float32)
    colour = np.empty((total, 2), np.float32)
    for start in range(0, total, _IMAGES_AT_ONCE):
        rows = np.arange(start, min(start + _IMAGES_AT_ONCE, total))
        for row, image in zip(rows, _checked(images[rows]), strict=True):
            small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
            parts = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb)
            grey[row] = parts[..., 0]
            colour[row] = parts[..., 1:].mean(axis=(0, 1))
        mean[rows] = grey[rows].mean(axis=(1, 2))
        contrast[rows] = grey[rows].std(axis=(1, 2))
        if progress is not None:
            progress(int(rows[-1]) + 1, total)
    return Thumbnails(_hashes(grey), grey.reshape(total, _SIDE * _SIDE), mean, contrast, colour)


def _checked(block: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if block.ndim != 4 or block.shape[3] != 3 or block.dtype != np.uint8:
        raise ValueError(
            f"expected images of shape (rows, height, width, 3) in uint8, "
            f"got {block.dtype} {block.shape}"
        )
    return block


def _hashes(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """(N, 32, 32) to (N,): one bit for each of the 8 x 8 lowest frequencies but the mean, which
    brightness changes. The first bit is always 0."""
    waves = np.arange(_FREQUENCIES)[:, None] * (2 * np.arange(_SIDE) + 1)
    basis = np.cos(np.pi / (2 * _SIDE) * waves).astype(np.float32)
    bits = np.zeros((len(grey), _FREQUENCIES * _FREQUENCIES), np.bool_)
    for start in range(0, len(grey), _PAIRS_AT_ONCE):
        block = grey[start : start + _PAIRS_AT_ONCE].astype(np.float32)
        spectrum = (basis @ block @ basis.T).reshape(len(block), -1)[:, 1:]
        middle = np.median(spectrum, axis=1, keepdims=True)
        bits[start : start + len(block), 1:] = spectrum > middle
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1)


def _candidates(
    hashes: npt.NDArray[np.uint64], rows: npt.NDArray[np.intp], max_distance: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Pairs of the given rows, with a < b, whose hashes differ in at most `max_distance` bits,
    and in how many; some `_PAIRS_AT_ONCE` at a time."""
    pending: list[npt.NDArray[np.int64]] = []
    waiting = 0
    chosen = hashes[rows]
    for first in range(len(rows)):
        # One row against all later ones stays in the cache: faster than blocks of rows.
        distance = np.bitwise_count(chosen[first] ^ chosen[first + 1 :])
        near = np.flatnonzero(distance <= max_distance)
        if len(near):
            a = np.full(len(near), rows[first])
            pending.append(np.stack([a, rows[first + 1 + near], distance[near]]))
            waiting += len(near)
        if waiting and (waiting >= _PAIRS_AT_ONCE or first == len(rows) - 1):
            for part in _in_parts(np.concatenate(pending, axis=1)):
                yield part[0], part[1], part[2]
            pending, waiting = [], 0


def _in_parts(pairs: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, pairs.shape[1], _PAIRS_AT_ONCE):
        yield pairs[:, start : start + _PAIRS_AT_ONCE]


def _alike(
    of: Thumbnails, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], max_difference: float
) -> npt.NDArray[np.intp]:
    """Which of the pairs are alike in contrast and colour, and then pixel by pixel."""
    low = np.minimum(of.contrast[a], of.contrast[b])
    alike = np.maximum(of.contrast[a], of.contrast[b]) <= MAX_CONTRAST_RATIO * low
    alike &= np.abs(of.colour[a] - of.colour[b]).max(axis=1) <= MAX_COLOUR_DIFFERENCE
    where = np.flatnonzero(alike)
    difference = np.abs(_standardised(of, a[where]) - _standardised(of, b[where])).mean(axis=1)
    return where[difference <= max_difference]


def _standardised(of: Thumbnails, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(n, 1024) of mean 0 and standard deviation 1: brightness and contrast do not count."""
    return (of.grey[rows] - of.mean[rows, None]) / of.contrast[rows, None]


class _Closest:
    """Collects pairs and keeps the first `limit` of them, in bounded memory."""

    def __init__(self, labels: npt.NDArray[np.integer], limit: int) -> None:
        self.labels = labels
        self.limit = limit
        self.found = 0
        self.kept = [np.empty((3, 0), np.int64)]
        self.held = 0

    def add(
        self,
        a: npt.NDArray[np.int64],
        b: npt.NDArray[np.int64],
        distance: npt.NDArray[np.int64],
    ) -> None:
        self.kept.append(np.stack([a, b, distance]).astype(np.int64))
        self.found += len(a)
        self.held += len(a)
        if self.held > 4 * self.limit:
            self._prune()

    def result(self, flat: npt.NDArray[np.int64]) -> NearDuplicates:
        self._prune()
        a, b, distance = self.kept[0]
        same = np.asarray(self.labels[a] == self.labels[b], dtype=np.bool_)
        return NearDuplicates(a, b, distance, same, self.found, flat)

    def _prune(self) -> None:
        pairs = np.concatenate(self.kept, axis=1)
        a, b, distance = pairs
        order = np.lexsort((b, a, distance, self.labels[a] == self.labels[b]))
        self.kept = [pairs[:, order[: self.limit]]]
        self.held = self.kept[0].shape[1]
