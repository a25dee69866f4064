"""Compiled passes over the true-class probabilities for the convex optimum.

float32 is read as it is stored and summed in float64, block by block, so that a large matrix is
neither copied nor converted. M members, N rows; `p_true` is (M, N) float32 or float64,
C-contiguous, floored at 1e-7 while it is read, as in the metric; NaN stays NaN. Compiled on first
use and cached.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble.kernels import compiled, inlined
from ensemble.metrics import LOG_LOSS_FLOOR

BLOCK_ROWS = 2048  # 16 KiB of float64: the rows' sums or coefficients stay in the first cache

PRODUCT_ROWS = 256  # a hundred members' rows fill 200 KiB of the second cache

_FLOOR = LOG_LOSS_FLOOR


@inlined()
def _floored(value: float) -> float:
    wide = np.float64(value)
    return _FLOOR if wide < _FLOOR else wide


@compiled(
    fastmath=(
        "contract",
        "reassoc",
    )
)
def slopes_of_blend(
    p_true: np.ndarray, members: np.ndarray, weights: np.ndarray, shares: np.ndarray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) float64: 1 over the blend, which is the sum over `members` (k,) int64 of `weights` (k,)
    times their row. (M,) float64: for every member the sum over rows of its value times `shares`
    (N,) over the blend. In one pass: the second reads what the first left in the cache."""
    n_members, n_rows = p_true.shape
    inverse = np.empty(n_rows)
    sums = np.zeros(n_members)
    buffer = np.empty(min(BLOCK_ROWS, n_rows))
    for start in range(0, n_rows, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, n_rows)
        part = inverse[start:end]
        _blend(p_true, members, weights, start, part)
        share = shares[start:end]
        coefficients = buffer[: part.size]
        for n in range(part.size):
            part[n] = 1.0 / part[n]
            coefficients[n] = share[n] * part[n]
        for j in range(n_members):
            row = p_true[j, start:end]
            total = 0.0
            for n in range(coefficients.size):
                total += coefficients[n] * _floored(row[n])
            sums[j] += total
    return inverse, sums


@inlined(fastmath=("contract",))
def _blend(
    p_true: np.ndarray, members: np.ndarray, weights: np.ndarray, start: int, blend: np.ndarray
) -> None:
    """blend (n,) = the sum over `members` of `weights` times their row from `start` on."""
    end = start + blend.size
    for n in range(blend.size):
        blend[n] = 0.0
    fours = members.size // 4 * 4
    for i in range(0, fours, 4):  # four at once: the blend is loaded and stored less often
        a, b = p_true[members[i], start:end], p_true[members[i + 1], start:end]
        c, d = p_true[members[i + 2], start:end], p_true[members[i + 3], start:end]
        wa, wb, wc, wd = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for n in range(blend.size):
            blend[n] += (wa * _floored(a[n]) + wb * _floored(b[n])) + (
                wc * _floored(c[n]) + wd * _floored(d[n])
            )
    for i in range(fours, members.size):
        a = p_true[members[i], start:end]
        wa = weights[i]
        for n in range(blend.size):
            blend[n] += wa * _floored(a[n])


@compiled(
    fastmath=(
        "contract",
        "reassoc",
    )
)
def products_over_rows(
    p_true: np.ndarray, members: np.ndarray, roots: np.ndarray, inverse: np.ndarray, stride: int
) -> NDArray[np.float64]:
    """(k, k) float64: for every pair of `members` (k,) int64 the sum over every `stride`th row of
    the product of their values, each times the row's of `roots` (N,) and of `inverse` (N,).

    In tiles of four by two, which fill the registers: as fast as a BLAS on one thread, faster for
    few members, and no threads to bound.
    """
    n_members, n_rows = members.size, p_true.shape[1]
    padded = (n_members + 3) // 4 * 4
    products = np.zeros((padded, padded))
    block = np.zeros((padded, PRODUCT_ROWS))
    factors = np.empty(PRODUCT_ROWS)
    for start in range(0, n_rows, PRODUCT_ROWS * stride):
        end = min(start + PRODUCT_ROWS * stride, n_rows)
        size = (end - start + stride - 1) // stride
        for n in range(size):
            factors[n] = roots[start + n * stride] * inverse[start + n * stride]
        for i in range(n_members):
            _scale(p_true[members[i], start:end], factors[:size], stride, block[i])
        for i in range(0, padded, 4):
            for j in range(0, i + 4, 2):
                _add_tile(block, i, j, size, products)
    for i in range(padded):
        for j in range(i):
            products[j, i] = products[i, j]
    return products[:n_members, :n_members].copy()


@inlined()
def _scale(row: np.ndarray, factors: np.ndarray, stride: int, into: np.ndarray) -> None:
    if stride == 1:  # neighbours: several at once
        for n in range(factors.size):
            into[n] = factors[n] * _floored(row[n])
    else:
        for n in range(factors.size):
            into[n] = factors[n] * _floored(row[n * stride])


@inlined(
    fastmath=(
        "contract",
        "reassoc",
    )
)
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


@compiled()
def active_set(weights: np.ndarray, gradient: np.ndarray, least_new: int) -> NDArray[np.int64]:
    """(k,) int64, ascending: members with weight, and the outsiders that promise most, of which
    there may be as many as members with weight, or `least_new`. `weights`, `gradient`: (M,)."""
    size = weights.size
    active = np.empty(size, np.bool_)
    count = 0
    level = 0.0
    for i in range(size):
        active[i] = weights[i] > 0.0
        count += active[i]
        level += weights[i] * gradient[i]
    for _ in range(max(least_new, count)):  # of those with weight, before any joins
        best = -1
        lowest = level
        for i in range(size):
            if not active[i] and gradient[i] < lowest:
                best = i
                lowest = gradient[i]
        if best < 0:
            break
        active[best] = True
        count += 1
    members = np.empty(count, np.int64)
    at = 0
    for i in range(size):
        if active[i]:
            members[at] = i
            at += 1
    return members
