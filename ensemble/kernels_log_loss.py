"""The log loss of a running sum of members with each further member added, compiled.

M members, N rows; `p_true` (M, N) float32 or float64, C-contiguous. No logarithm is taken per
row: log loss is the logarithm of a product. The product is kept in 64 lanes, which the compiler
turns into vector instructions, as a mantissa and a whole exponent: 32 factors, the least of them
1e-7, stay within float64's range, then the exponent is taken out of the bits. Rows are worked on
in blocks that stay in the first cache while all members pass.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ensemble.kernels import compiled, inlined

LANES = 64
FACTORS = 32  # (1e-7) ** 32 is 2 ** -744; float64 reaches 2 ** -1022
BLOCK_ROWS = LANES * FACTORS
_QUAD = 4 * LANES

_EXPONENT_AT = np.uint64(52)
_MANTISSA = np.uint64((1 << 52) - 1)
_ONE_BITS = np.uint64(1023 << 52)
_BIAS = 1023

# log: x = 2^e (1 + f) with 1 + f from sqrt(1/2) to sqrt(2), as in fdlibm's e_log.c (Sun 1993).
_SQRT_HALF_BITS = np.uint64(0x3FE6A09E667F3BCD)
_TO_ONE = np.uint64((1023 << 52) - 0x3FE6A09E667F3BCD)
_TWO_52_BITS = np.uint64(1075 << 52)
_TWO_52_AND_BIAS = float((1 << 52) + 1023)
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_L1, _L2, _L3, _L4, _L5, _L6, _L7 = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)


@inlined(fastmath=("contract",))
def _multiply(
    total: np.ndarray, column: np.ndarray, floor: float, size: float, lanes: np.ndarray
) -> int:
    """lanes *= max(total + column, floor), rows dealt out to lanes; lanes left over in the last
    deal get `size`, which counts as a probability of 1. Returns factors per lane."""
    n = total.size
    quads = n - n % _QUAD
    for at in range(0, quads, _QUAD):
        for j in range(LANES):
            a = max(total[at + j] + column[at + j], floor)
            b = max(total[at + LANES + j] + column[at + LANES + j], floor)
            c = max(total[at + 2 * LANES + j] + column[at + 2 * LANES + j], floor)
            d = max(total[at + 3 * LANES + j] + column[at + 3 * LANES + j], floor)
            lanes[j] *= (a * b) * (c * d)
    whole = n - n % LANES
    for at in range(quads, whole, LANES):
        for j in range(LANES):
            lanes[j] *= max(total[at + j] + column[at + j], floor)
    if whole == n:
        return n // LANES
    rest = n - whole
    for j in range(rest):
        lanes[j] *= max(total[whole + j] + column[whole + j], floor)
    for j in range(rest, LANES):
        lanes[j] *= size
    return n // LANES + 1


@inlined()
def _take_exponents(lanes: np.ndarray, scale: float) -> int:
    """lanes *= scale, then bring every lane back to [1, 2). Returns the exponents' sum."""
    taken = np.uint64(0)
    for j in range(LANES):
        bits = np.float64(lanes[j] * scale).view(np.uint64)
        taken += bits >> _EXPONENT_AT
        lanes[j] = np.uint64((bits & _MANTISSA) | _ONE_BITS).view(np.float64)
    return int(np.int64(taken)) - LANES * _BIAS


@compiled()
def log_losses(
    p_true: np.ndarray, p_sum: np.ndarray, size: int, members: np.ndarray, floor: float
) -> NDArray[np.float64]:
    """(m,) float64: for each of `members` (m,) int64 the mean over rows of
    -log(max((p_sum + p_true[member]) / size, floor)). `p_sum`: (N,) float64. `size`: how many
    members the sum has with the one added."""
    n_rows = p_sum.size
    lanes = np.ones((members.size, LANES))
    exponents = np.zeros(members.size, np.int64)
    count = float(size)
    low = floor * count
    for start in range(0, n_rows, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, n_rows)
        total = p_sum[start:end]
        # One correctly rounded division for up to 32 rows: closer than one for each.
        scale = math.pow(count, -float((end - start + LANES - 1) // LANES))
        for i in range(members.size):
            _multiply(total, p_true[members[i], start:end], low, count, lanes[i])
            exponents[i] += _take_exponents(lanes[i], scale)
    losses = np.empty(members.size)
    for i in range(members.size):
        product = 1.0  # of 64 mantissas, less than 2 ** 64
        for j in range(LANES):
            product *= lanes[i, j]
        # + 0.0: a perfect member's loss is 0 and not -0.
        losses[i] = max(-(exponents[i] * math.log(2.0) + math.log(product)) / n_rows, 0.0) + 0.0
    return losses


@inlined(fastmath=("contract",))
def _log_of_mean(
    total: np.ndarray, column: np.ndarray, size: float, floor: float, out: np.ndarray
) -> None:
    for i in range(total.size):
        x = max((total[i] + column[i]) / size, floor)
        shifted = np.uint64(np.float64(x).view(np.uint64) + _TO_ONE)
        # The exponent as float64 without a conversion, which AVX2 lacks: into 2^52's last bits.
        e = np.uint64((shifted >> _EXPONENT_AT) | _TWO_52_BITS).view(np.float64) - _TWO_52_AND_BIAS
        f = np.uint64((shifted & _MANTISSA) + _SQRT_HALF_BITS).view(np.float64) - 1.0
        s = f / (2.0 + f)
        z = s * s
        r = _L7 * z + _L6
        r = r * z + _L5
        r = r * z + _L4
        r = r * z + _L3
        r = r * z + _L2
        r = r * z + _L1
        r = r * z
        half = 0.5 * f * f
        out[i] = e * _LN2_HIGH - ((half - (s * (half + r) + e * _LN2_LOW)) - f)


@inlined(fastmath=("contract", "reassoc"))
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@compiled()
def weighted_log_losses(
    p_true: np.ndarray,
    p_sum: np.ndarray,
    size: int,
    members: np.ndarray,
    floor: float,
    row_weights: np.ndarray,
) -> NDArray[np.float64]:
    """`log_losses` as means weighted by `row_weights` (N,) float64, not all zero. Here every row
    costs its logarithm."""
    sums = np.zeros(members.size)
    logs = np.empty(BLOCK_ROWS)
    for start in range(0, p_sum.size, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, p_sum.size)
        block = logs[: end - start]
        for i in range(members.size):
            _log_of_mean(p_sum[start:end], p_true[members[i], start:end], float(size), floor, block)
            sums[i] -= _dot(row_weights[start:end], block)
    return np.maximum(sums / row_weights.sum(), 0.0) + 0.0


@compiled()
def highest_bits(values: np.ndarray) -> int:
    """The largest of `values` (n,) unsigned: the bits of floats. Floats from 0 up are ordered as
    their bits; negative ones and NaN come above all others, so this one number says whether all
    are probabilities."""
    top = values[0]
    for i in range(values.size):  # numba's own max would not vectorise
        top = values[i] if values[i] > top else top
    return top
