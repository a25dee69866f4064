"""Compiled passes over the true-class probabilities for the convex optimum.

float32 is read as it is stored and summed in float64, block by block, so that a large matrix is
neither copied nor converted. M members, N rows; `p_true` is (M, N) float32 or float64,
C-contiguous, floored at 1e-7 while it is read, as in the metric; NaN stays NaN. Compiled on first
use and cached.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ensemble.metrics import LOG_LOSS_FLOOR

BLOCK_ROWS = 2048  # 16 KiB of float64: the rows' sums or coefficients stay in the first cache

PRODUCT_ROWS = 256  # a hundred members' rows fill 200 KiB of the second cache

_FLOOR = LOG_LOSS_FLOOR


@njit(cache=True, nogil=True)
def _floored(value: float) -> float:
    wide = np.float64(value)
    return _FLOOR if wide < _FLOOR else wide


@njit(cache=True, nogil=True, fastmath={"contract"})
def blend_rows(p_true: np.ndarray, members: np.ndarray, weights: np.ndarray) -> NDArray[np.float64]:
    """(N,) float64: the sum over `members` (k,) int64 of `weights` (k,) times their row."""
    n_rows = p_true.shape[1]
    blend = np.zeros(n_rows)
    fours = members.size // 4 * 4
    for start in range(0, n_rows, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, n_rows)
        part = blend[start:end]
        for i in range(0, fours, 4):  # four at once: the blend is loaded and stored less often
            a = p_true[members[i], start:end]
            b = p_true[members[i + 1], start:end]
            c = p_true[members[i + 2], start:end]
            d = p_true[members[i + 3], start:end]
            wa, wb, wc, wd = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
            for n in range(part.size):
                part[n] += (wa * _floored(a[n]) + wb * _floored(b[n])) + (
                    wc * _floored(c[n]) + wd * _floored(d[n])
                )
        for i in range(fours, members.size):
            a = p_true[members[i], start:end]
            wa = weights[i]
            for n in range(part.size):
                part[n] += wa * _floored(a[n])
    return blend


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def sums_over_rows(p_true: np.ndarray, coefficients: np.ndarray) -> NDArray[np.float64]:
    """(M,) float64: for every member the sum over rows of its value times `coefficients` (N,)."""
    n_members, n_rows = p_true.shape
    sums = np.zeros(n_members)
    for start in range(0, n_rows, BLOCK_ROWS):
        part = coefficients[start : start + BLOCK_ROWS]
        for j in range(n_members):
            row = p_true[j, start : start + BLOCK_ROWS]
            total = 0.0
            for n in range(part.size):
                total += part[n] * _floored(row[n])
            sums[j] += total
    return sums


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def products_over_rows(
    p_true: np.ndarray, members: np.ndarray, factors: np.ndarray, stride: int
) -> NDArray[np.float64]:
    """(k, k) float64: for every pair of `members` (k,) int64 the sum over every `stride`th row of
    the product of their values, each times the row's of `factors` (ceil(N / stride),).

    In tiles of four by two, which fill the registers: as fast as a BLAS on one thread, faster for
    few members, and no threads to bound.
    """
    n_members = members.size
    padded = (n_members + 3) // 4 * 4
    products = np.zeros((padded, padded))
    block = np.zeros((padded, PRODUCT_ROWS))
    for start in range(0, factors.size, PRODUCT_ROWS):
        part = factors[start : start + PRODUCT_ROWS]
        for i in range(n_members):
            row = p_true[members[i], start * stride :]
            into = block[i]
            for n in range(part.size):
                into[n] = part[n] * _floored(row[n * stride])
        for i in range(0, padded, 4):
            for j in range(0, i + 4, 2):
                _add_tile(block, i, j, part.size, products)
    for i in range(padded):
        for j in range(i):
            products[j, i] = products[i, j]
    return products[:n_members, :n_members].copy()


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _add_tile(block: np.ndarray, i: int, j: int, size: int, products: np.ndarray) -> None:
    a, b, c, d = block[i, :size], block[i + 1, :size], block[i + 2, :size], block[i + 3, :size]
    x, y = block[j, :size], block[j + 1, :size]
    ax = ay = bx = by = cx = cy = dx = dy = 0.0
    for n in range(size):
        ax += a[n] * x[n]
        ay += a[n] * y[n]
        bx += b[n] * x[n]
        by += b[n] * y[n]
        cx += c[n] * x[n]
        cy += c[n] * y[n]
        dx += d[n] * x[n]
        dy += d[n] * y[n]
    products[i, j] += ax
    products[i, j + 1] += ay
    products[i + 1, j] += bx
    products[i + 1, j + 1] += by
    products[i + 2, j] += cx
    products[i + 2, j + 1] += cy
    products[i + 3, j] += dx
    products[i + 3, j + 1] += dy
