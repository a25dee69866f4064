"""Compiled passes over probabilities for temperature scaling.

numba without Intel's SVML leaves `math.exp` and `math.log` scalar, so both are written here in
float32 arithmetic that the compiler turns into vector instructions: bit manipulation for the
exponent, a polynomial for the rest (the logarithm's as in Cephes' logf, Moshier 1992; the
exponential's is Taylor's). Both are good to about 1e-7 relative. Rows are worked on in blocks that
stay in the first cache; all sums over rows are float64.

Shapes: N rows, C classes, K folds. `proba` is (N, C) float32, C-contiguous. Compiled on first use
and cached beside this file or in NUMBA_CACHE_DIR.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ensemble.kernels import compiled, inlined

# An exact 0 or 1 is a rounded logit; its logarithm must stay finite. Small enough that a thousand
# floored classes take no visible share from the others.
PROBABILITY_FLOOR = 1e-12
BLOCK_VALUES = 4096  # two float32 buffers of 16 KiB
COLUMNS = 7  # of `cumulant_sums`

_FLOOR = np.float32(PROBABILITY_FLOOR)
_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
_ZERO = np.float32(0.0)

# log: x = m 2^e with m from sqrt(1/2) to sqrt(2).
_SQRT_HALF_BITS = np.int32(0x3F3504F3)
_MANTISSA = np.int32(0x7FFFFF)
_EXPONENT_AT = np.int32(23)
_LN2_HIGH = np.float32(0.693359375)  # exact in few bits, so that e times it is exact
_LN2_LOW = np.float32(-2.12194440e-4)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (
    np.float32(c)
    for c in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)

# exp: 2^t = 2^k 2^f with f from -1/2 to 1/2.
_LOWEST = np.float32(-126.0)  # 2^-126 is the smallest normal float32: as good as nothing
_BIAS = np.int32(127)
_E1, _E2, _E3, _E4, _E5, _E6, _E7 = (
    np.float32(math.log(2.0) ** k / math.factorial(k)) for k in range(1, 8)
)


@inlined(fastmath=("contract",))
def log_floored(values: np.ndarray, out: np.ndarray) -> None:
    """out = log(max(values, 1e-12)), both (n,) float32, NaN not looked for."""
    for i in range(values.size):
        x = np.float32(max(_FLOOR, values[i]))
        shifted = np.int32(x.view(np.int32) - _SQRT_HALF_BITS)
        e = np.float32(np.int32(shifted >> _EXPONENT_AT))
        m = np.int32(np.int32(shifted & _MANTISSA) + _SQRT_HALF_BITS).view(np.float32)
        z = m - _ONE
        square = z * z
        r = _L0 * z + _L1
        r = r * z + _L2
        r = r * z + _L3
        r = r * z + _L4
        r = r * z + _L5
        r = r * z + _L6
        r = r * z + _L7
        r = r * z + _L8
        r = r * (z * square) + e * _LN2_LOW
        out[i] = (r - _HALF * square) + z + e * _LN2_HIGH


@compiled()
def log_of(values: np.ndarray, out: np.ndarray) -> None:
    """`log_floored`, for Python to call."""
    log_floored(values, out)


@compiled(fastmath=("contract",))
def add_logs(values: np.ndarray, weight: float, total: np.ndarray, logs: np.ndarray) -> None:
    """total += weight log(max(values, 1e-12)), `total` (n,) float64, `values` and the room for
    their logarithms `logs` (n,) float32."""
    log_floored(values, logs)
    for i in range(values.size):
        total[i] += weight * logs[i]


@inlined(fastmath=("contract",))
def exp_scaled(logits: np.ndarray, beta: float, out: np.ndarray) -> None:
    """out = exp(beta logits), both (n,) float32, for beta logits <= 0; below 2^-126 it stays
    there."""
    factor = beta / math.log(2.0)
    high = np.float32(factor)
    low = np.float32(factor - high)
    near = np.float32(factor * (1.0 + 1e-6))
    for i in range(logits.size):
        logit = logits[i]
        # `near` only chooses k, so that the product with `high` has one use: the compiler then
        # fuses it with the subtraction and does not round it before.
        t = max(_LOWEST, logit * near)
        k = np.int32(t - _HALF)  # t <= 0: cutting off rounds to the nearest
        f = (logit * high - np.float32(k)) + logit * low
        f = f if t > _LOWEST else _ZERO
        r = _E7 * f + _E6
        r = r * f + _E5
        r = r * f + _E4
        r = r * f + _E3
        r = r * f + _E2
        r = r * f + _E1
        r = r * f + _ONE
        out[i] = r * np.int32(np.int32(k + _BIAS) << _EXPONENT_AT).view(np.float32)


@inlined(fastmath=("contract",))
def shift_rows(logits: np.ndarray, n_classes: int) -> None:
    """Subtract from each row of `logits` (rows * C,) its maximum, in place."""
    for start in range(0, logits.size, n_classes):
        row = logits[start : start + n_classes]
        top = row[0]
        for value in row:
            top = value if value > top else top
        for c in range(n_classes):
            row[c] -= top


@inlined(
    fastmath=(
        "contract",
        "reassoc",
    )
)
def _raw_moments(logits: np.ndarray, mass: np.ndarray) -> tuple[float, float, float, float, float]:
    """Mean of the first five powers of `logits` (C,) under `mass` (C,)."""
    s0 = s1 = s2 = s3 = s4 = s5 = _ZERO
    for c in range(logits.size):
        term = mass[c]
        s0 += term
        term *= logits[c]
        s1 += term
        term *= logits[c]
        s2 += term
        term *= logits[c]
        s3 += term
        term *= logits[c]
        s4 += term
        term *= logits[c]
        s5 += term
    total = np.float64(s0)
    return s1 / total, s2 / total, s3 / total, s4 / total, s5 / total


@inlined()
def _add_higher_cumulants(
    into: np.ndarray, share: float, m1: float, m2: float, m3: float, m4: float, m5: float
) -> None:
    """Add share times the second to fifth cumulant, from the means of the powers."""
    c2 = max(m2 - m1 * m1, 0.0)
    c3 = m3 - 3.0 * m2 * m1 + 2.0 * m1**3
    c4 = m4 - 4.0 * m3 * m1 + 6.0 * m2 * m1**2 - 3.0 * m1**4  # central, not yet a cumulant
    c5 = m5 - 5.0 * m4 * m1 + 10.0 * m3 * m1**2 - 10.0 * m2 * m1**3 + 4.0 * m1**5
    into[3] += share * c2
    into[4] += share * c3
    into[5] += share * (c4 - 3.0 * c2 * c2)
    into[6] += share * (c5 - 10.0 * c3 * c2)


@compiled()
def cumulant_sums(
    proba: np.ndarray,
    labels: np.ndarray,
    shares: np.ndarray,
    fold_codes: np.ndarray,
    n_folds: int,
    beta: float,
    stride: int,
) -> NDArray[np.float64]:
    """(K, 7) float64: over each fold's rows, every `stride`th of all rows from the first on, the
    sums of share; share times the true class's logit; share times the first five cumulants of the
    logits under softmax(beta logits). Logits are log(max(p, 1e-12)) with the row's highest at 0.

    `labels`, `fold_codes`: (N,) int64, the codes from 0 to K - 1. `shares`: (N,) float64.
    """
    n_rows, n_classes = proba.shape
    sums = np.zeros((n_folds, COLUMNS))
    block_rows = max(1, BLOCK_VALUES // n_classes)
    picked = np.empty(block_rows * n_classes, np.float32)
    logits = np.empty_like(picked)
    mass = np.empty_like(picked)
    n_picked = (n_rows + stride - 1) // stride
    for start in range(0, n_picked, block_rows):
        rows = min(block_rows, n_picked - start)
        size = rows * n_classes
        if stride == 1:
            log_floored(proba[start : start + rows].reshape(-1), logits[:size])
        else:
            for i in range(rows):
                for c in range(n_classes):
                    picked[i * n_classes + c] = proba[(start + i) * stride, c]
            log_floored(picked[:size], logits[:size])
        shift_rows(logits[:size], n_classes)
        exp_scaled(logits[:size], beta, mass[:size])
        for i in range(rows):
            row = (start + i) * stride
            at = i * n_classes
            m1, m2, m3, m4, m5 = _raw_moments(
                logits[at : at + n_classes], mass[at : at + n_classes]
            )
            share = shares[row]
            into = sums[fold_codes[row]]
            into[0] += share
            into[1] += share * logits[at + labels[row]]
            into[2] += share * m1
            _add_higher_cumulants(into, share, m1, m2, m3, m4, m5)
    return sums


@inlined(
    fastmath=(
        "contract",
        "reassoc",
    )
)
def _normalise(row: np.ndarray) -> None:
    total = 0.0  # float64: a thousand small probabilities beside one near 1 must not vanish
    for value in row:
        total += value
    inverse = np.float32(1.0 / total)
    for c in range(row.size):
        row[c] *= inverse


@compiled()
def temper_rows(proba: np.ndarray, beta: float, out: np.ndarray) -> None:
    """out = softmax(beta log max(p, 1e-12)), row by row; `out` (N, C) float32 may be `proba`."""
    n_rows, n_classes = proba.shape
    block_rows = max(1, BLOCK_VALUES // n_classes)
    logits = np.empty(block_rows * n_classes, np.float32)
    for start in range(0, n_rows, block_rows):
        rows = min(block_rows, n_rows - start)
        block = logits[: rows * n_classes]
        log_floored(proba[start : start + rows].reshape(-1), block)
        shift_rows(block, n_classes)
        exp_scaled(block, beta, out[start : start + rows].reshape(-1))
        for row in range(start, start + rows):
            _normalise(out[row])
