"""One pass over all members' probabilities: what selection by decisions needs of them, compiled.

M members, N rows, C classes, of which each row's shortlist has K: those that some member gives the
highest probabilities. Probabilities come as their bits, unsigned integers, which are ordered as
non-negative floats are, and of which the largest shows if one is negative or NaN
(`kernels_log_loss.highest_bits`). The bound is the memory's speed: all of it is read once, in
blocks of rows that stay in the second cache.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ensemble.kernels import compiled, inlined

BLOCK_VALUES = 1 << 16  # of all members: 256 KiB in float32
NOT_LISTED = 255
GRADES = 254  # of a probability as one byte; one a little above 1 by rounding has 255


class Members(NamedTuple):
    """What selection by decisions knows of all members. Besides `probs` that is 4 K + 11 bytes for
    each member and row if they are float32.

    probs    (M, N, C) float32 or float64, and of that type:
    classes  (N, K) int32: each row's shortlist, ascending
    listed   (N, M, K) its probabilities
    best     (N, M) uint8: where in the shortlist a member's own decision is, or NOT_LISTED
    highest  (N, M) uint8: each member's highest probability in 254ths, rounded up
    second   (N, M) uint8: at least its second highest, likewise
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
def read_members(into: Members, bits: np.ndarray, rest_bits: np.ndarray, labels: np.ndarray) -> int:
    """Fill all fields of `into` from its `probs` and from `labels` (N,) int64. `bits` and
    `rest_bits` are the same memory as its `probs` and `rest`. Returns the largest bits."""
    probs, classes, listed, best, highest, seconds, rest, p_true = into
    n_members, n_rows, n_classes = bits.shape
    n_listed = classes.shape[1]
    partial = n_listed < n_classes
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
        for n in range(np.uintp(start), np.uintp(end)):  # unsigned: no index below 0 to ask for
            if partial:
                at = (np.int64(n) - start) * n_classes
                _choose_classes(peaks[at : at + n_classes], classes[n], values)
                for k in range(n_listed):
                    kept[classes[n, k]] = 0
            else:
                for k in range(n_listed):
                    classes[n, k] = k
            label = np.uintp(labels[n])
            for m in range(np.uintp(n_members)):
                other = np.float64(0.0)
                if partial:
                    rest_bits[n, m] = _highest_kept(bits[m, n], kept)
                    other = np.float64(rest[n, m])
                    for k in range(n_listed):
                        listed[n, m, k] = probs[m, n, np.uintp(classes[n, k])]
                else:
                    rest[n, m] = 0.0
                    for k in range(n_listed):
                        listed[n, m, k] = probs[m, n, k]
                place, high, second = 0, np.float64(listed[n, m, 0]), other
                for k in range(1, n_listed):
                    value = np.float64(listed[n, m, k])
                    loser = high if value > high else value
                    second = loser if loser > second else second
                    place = k if value > high else place
                    high = value if value > high else high
                if partial and other >= high:
                    # What is second then is not known, but no higher than this.
                    place, high, second = NOT_LISTED, other, other
                best[n, m] = place
                highest[n, m] = math.ceil(high * GRADES)
                seconds[n, m] = math.ceil(second * GRADES)
                p_true[m, n] = probs[m, n, label]
            if partial:
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
