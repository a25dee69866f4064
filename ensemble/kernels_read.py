"""One pass over all members' probabilities: what selection by decisions needs of them, compiled.

M members, N rows, C classes, of which each row's shortlist has K: those that some member gives the
highest probabilities. Probabilities come as their bits, unsigned integers, which are ordered as
non-negative floats are, and of which the largest shows if one is negative or NaN
(`kernels_log_loss.highest_bits`). The bound is the memory's speed: all of it is read once, in
blocks of rows that stay in the second cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ensemble.kernels import compiled, inlined

BLOCK_VALUES = 1 << 16  # of all members: 256 KiB in float32
NOT_LISTED = 255


class Members(NamedTuple):
    """What selection by decisions knows of all members. Besides `probs` that is 4 K + 17 bytes
    for each member and row if they are float32.

    probs    (M, N, C) float32 or float64, and of that type:
    classes  (N, K) int32: each row's shortlist, ascending
    listed   (N, M, K) its probabilities
    best     (N, M) uint8: where in the shortlist a member's own decision is, or NOT_LISTED
    highest  (N, M) each member's highest probability, of all classes
    second   (N, M) at least its second highest; 0 with one class
    rest     (N, M) its highest of the classes not listed; 0 if none
    p_true   (M, N) the probability of the row's true class
    """

    probs: np.ndarray
    classes: np.ndarray
    listed: np.ndarray
    best: np.ndarray
    highest: np.ndarray
    second: np.ndarray
    rest: np.ndarray
    p_true: np.ndarray


@inlined()
def _highest(row: np.ndarray, top: int) -> int:
    for c in range(row.size):  # numba's own max would not vectorise
        top = row[c] if row[c] > top else top
    return top


@inlined()
def _raise_to(peaks: np.ndarray, values: np.ndarray) -> None:
    for i in range(peaks.size):
        peaks[i] = values[i] if values[i] > peaks[i] else peaks[i]


@inlined()
def _choose_classes(peaks: np.ndarray, classes: np.ndarray, values: np.ndarray) -> None:
    """classes (K,) = those of the highest `peaks` (C,), ascending."""
    size = 0
    for c in range(peaks.size):
        if size == classes.size:
            if peaks[c] <= values[size - 1]:
                continue
            size -= 1
        at = size
        while at > 0 and values[at - 1] < peaks[c]:
            values[at], classes[at] = values[at - 1], classes[at - 1]
            at -= 1
        values[at], classes[at] = peaks[c], c
        size += 1
    for i in range(1, classes.size):
        kept, at = classes[i], i
        while at > 0 and classes[at - 1] > kept:
            classes[at] = classes[at - 1]
            at -= 1
        classes[at] = kept


@inlined()
def _highest_kept(row: np.ndarray, kept: np.ndarray) -> int:
    """The highest of `row` (C,) where `kept` (C,) is all ones; elsewhere that is 0."""
    top = row.dtype.type(0)
    for c in range(row.size):
        value = row[c] & kept[c]
        top = value if value > top else top
    return top


@compiled()
def read_members(into: Members, labels: np.ndarray) -> int:
    """Fill all fields of `into` from the first, and from `labels` (N,) int64. Here probabilities
    are their bits. Returns the largest of them."""
    bits, classes, listed, best, highest, second, rest, p_true = into
    n_members, n_rows, n_classes = bits.shape
    n_listed = classes.shape[1]
    largest = bits[0, 0, 0]
    values = np.empty(n_listed, bits.dtype)
    kept = np.full(n_classes, ~bits.dtype.type(0))
    block_rows = max(1, BLOCK_VALUES // (n_members * n_classes))
    for start in range(0, n_rows, block_rows):
        end = min(start + block_rows, n_rows)
        peaks = bits[0, start:end].copy().reshape(-1)
        for m in range(1, n_members):
            _raise_to(peaks, bits[m, start:end].reshape(-1))
        largest = _highest(peaks, largest)
        for n in range(start, end):
            at = (n - start) * n_classes
            if n_listed < n_classes:
                _choose_classes(peaks[at : at + n_classes], classes[n], values)
            else:
                for c in range(n_classes):
                    classes[n, c] = c
            for k in range(n_listed):
                kept[classes[n, k]] = 0
            for m in range(n_members):
                row = bits[m, n]
                mine = listed[n, m]
                other = bits.dtype.type(0)
                if n_listed < n_classes:
                    for k in range(n_listed):
                        mine[k] = row[classes[n, k]]
                    other = _highest_kept(row, kept)
                else:
                    for k in range(n_listed):
                        mine[k] = row[k]
                place, high, runner_up = 0, mine[0], other
                for k in range(1, n_listed):
                    value = mine[k]
                    loser = high if value > high else value
                    runner_up = loser if loser > runner_up else runner_up
                    place = k if value > high else place
                    high = value if value > high else high
                if n_listed < n_classes and other >= high:
                    # Not the second of the classes left, but no less: it may only grow.
                    place, high, runner_up = NOT_LISTED, other, other
                rest[n, m] = other
                best[n, m], highest[n, m], second[n, m] = place, high, runner_up
                p_true[m, n] = row[labels[n]]
            for k in range(n_listed):
                kept[classes[n, k]] = ~kept.dtype.type(0)
    return largest


@compiled()
def true_class_bits(bits: np.ndarray, labels: np.ndarray, p_true: np.ndarray) -> int:
    """`read_members` for `p_true` (M, N) alone. Returns the largest of all bits."""
    n_members, n_rows, _ = bits.shape
    largest = bits[0, 0, 0]
    for m in range(n_members):
        largest = _highest(bits[m].reshape(-1), largest)
        for n in range(n_rows):
            p_true[m, n] = bits[m, n, labels[n]]
    return largest
