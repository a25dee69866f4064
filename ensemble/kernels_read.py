"""One pass over all members' probabilities: what selection by decisions needs of them, compiled.

M members, N rows, C classes. The bound is the memory's speed: on A (361 MB) the pass takes little
more than numpy's sum.
"""

from __future__ import annotations

import numpy as np

from ensemble.kernels import compiled, inlined

FEW_CLASSES = 24  # up to here one careful scan is faster than three vectorised ones
BLOCK_ROWS = 64


@inlined()
def _best_of_few(row: np.ndarray) -> tuple[int, int, int]:
    """Highest and second highest of `row` (C,), and the first place of the highest. Without
    branches: which class wins cannot be predicted."""
    top = row[0]
    second = row.dtype.type(0)
    place = np.int32(0)
    for c in range(1, row.size):
        value = row[c]
        higher = value > top
        loser = top if higher else value
        second = loser if loser > second else second
        place = np.int32(c) if higher else place
        top = value if higher else top
    return top, second, int(place)


@inlined()
def _highest(row: np.ndarray, top: int) -> int:
    for c in range(row.size):  # numba's own max would not vectorise
        top = row[c] if row[c] > top else top
    return top


@inlined()
def _place_of(row: np.ndarray, wanted: int) -> int:
    place = np.int32(row.size)
    for c in range(row.size):  # without an early exit, so that it vectorises
        here = np.int32(c) if row[c] == wanted else np.int32(row.size)
        place = here if here < place else place
    return int(place)


@inlined()
def _best_of_many(row: np.ndarray) -> tuple[int, int, int]:
    top = _highest(row, row[0])
    place = _place_of(row, top)
    second = _highest(row[:place], row.dtype.type(0))
    return top, _highest(row[place + 1 :], second), place


@compiled()
def read_members(
    bits: np.ndarray,
    labels: np.ndarray,
    highest: np.ndarray,
    second: np.ndarray,
    best: np.ndarray,
    p_true: np.ndarray,
) -> int:
    """Fill `highest`, `second` (N, M), `best` (N, M) int32, the first class of the highest, and
    `p_true` (M, N), of labels (N,) int64, from `bits` (M, N, C): the bits of the probabilities as
    unsigned integers, which are ordered as non-negative floats are, and compared faster. All but
    `best` and `labels` have the type of `bits`. Returns the largest of all bits: see
    `kernels_log_loss.highest_bits`.
    """
    n_members, n_rows, n_classes = bits.shape
    largest = bits[0, 0, 0]
    for start in range(0, n_rows, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, n_rows)
        for m in range(n_members):
            for n in range(start, end):
                row = bits[m, n]
                if n_classes <= FEW_CLASSES:
                    top, runner_up, place = _best_of_few(row)
                else:
                    top, runner_up, place = _best_of_many(row)
                highest[n, m] = top
                second[n, m] = runner_up
                best[n, m] = place
                p_true[m, n] = row[labels[n]]
                largest = top if top > largest else largest
    return largest


@compiled()
def true_class_bits(bits: np.ndarray, labels: np.ndarray, p_true: np.ndarray) -> int:
    """`read_members` for `p_true` (M, N) alone. Returns the largest of all bits."""
    n_members, n_rows, _ = bits.shape
    largest = bits[0, 0, 0]
    for m in range(n_members):
        for n in range(n_rows):
            row = bits[m, n]
            largest = _highest(row, largest)
            p_true[m, n] = row[labels[n]]
    return largest
