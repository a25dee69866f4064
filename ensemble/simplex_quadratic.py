"""The minimum of a convex quadratic over the simplex: an active-set method, compiled.

Nocedal and Wright, "Numerical Optimization", 2nd edition, algorithm 16.3, with every member in the
first working set, and several put out of it at once where that lowers the objective.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

RIDGE = 1e-12  # of a unit diagonal: members may be copies of one another
TINY = 1e-14


@njit(cache=True, nogil=True)
def simplex_quadratic_optimum(
    hessian: np.ndarray, gradient: np.ndarray, start: np.ndarray
) -> NDArray[np.float64]:
    """argmin over v >= 0 with sum(v) = 1 of gradient'd + d'hessian d / 2, with d = v - start.

    `hessian`: (k, k) positive semidefinite with a positive diagonal. `gradient`, `start`: (k,);
    `start` is on the simplex. Never worse than `start` but for rounding, also where rounding ends
    the search early. All float64.
    """
    # On a unit diagonal: u = scale v, so that the ridge means the same for every member.
    scale = np.sqrt(np.diag(hessian))
    unit = hessian / scale / scale.reshape(-1, 1)
    n_members = scale.size
    for i in range(n_members):
        unit[i, i] += RIDGE * n_members
    ones = 1.0 / scale
    value = start * scale
    linear = gradient / scale - _times(unit, value)
    working = np.ones(n_members, np.bool_)
    for _ in range(10 * n_members + 10):
        solution = _minimum(unit, linear, ones, working)
        if solution.min() < 0.0:
            value = _towards(unit, linear, ones, value, solution, working)
            continue
        value = solution
        entering = _entering(_times(unit, value) + linear, scale, working)
        if entering < 0:
            break
        working[entering] = True
    weights = value / scale
    return weights / weights.sum()


@njit(cache=True, nogil=True)
def _towards(
    unit: np.ndarray,
    linear: np.ndarray,
    ones: np.ndarray,
    value: np.ndarray,
    solution: np.ndarray,
    working: np.ndarray,
) -> NDArray[np.float64]:
    """From `value` towards `solution`, which has members below 0: those at 0 where that is better
    than `value`, else as far as the first of them allows. `working` loses who ends at 0."""
    clipped = np.maximum(solution, 0.0)
    clipped /= np.sum(ones * clipped)
    if _quadratic(unit, linear, clipped) < _quadratic(unit, linear, value):
        for i in range(value.size):
            working[i] = working[i] and solution[i] >= 0.0
        return clipped
    room = 1.0
    for i in range(value.size):
        if solution[i] < 0.0:
            room = min(room, value[i] / (value[i] - solution[i]))
    moved = value + room * (solution - value)
    for i in range(value.size):
        if solution[i] < 0.0 and moved[i] * ones[i] <= TINY:
            working[i] = False
            moved[i] = 0.0
    return moved


@njit(cache=True, nogil=True)
def _entering(slope: np.ndarray, scale: np.ndarray, working: np.ndarray) -> int:
    """The member outside `working` that would lower the objective most, -1 where none would."""
    level = 0.0
    for i in range(slope.size):
        if working[i]:
            level += slope[i] * scale[i] / working.sum()
    best = -1
    lowest = level - 1e-13 * (1.0 + abs(level))
    for i in range(slope.size):
        if not working[i] and slope[i] * scale[i] < lowest:
            best, lowest = i, slope[i] * scale[i]
    return best


@njit(cache=True, nogil=True)
def _minimum(
    unit: np.ndarray, linear: np.ndarray, ones: np.ndarray, working: np.ndarray
) -> NDArray[np.float64]:
    """argmin of u'unit u / 2 + linear'u with ones'u = 1, where only `working` may differ from 0:
    the sum's multiplier from two solutions with one Cholesky factor."""
    at = np.flatnonzero(working)
    factor = _cholesky(unit, at)
    free = _solve(factor, -linear[at])
    pull = _solve(factor, ones[at])
    level = (np.sum(ones[at] * free) - 1.0) / np.sum(ones[at] * pull)
    solution = np.zeros(working.size)
    for i in range(at.size):
        solution[at[i]] = free[i] - level * pull[i]
    return solution


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True)
def _times(matrix: np.ndarray, vector: np.ndarray) -> NDArray[np.float64]:
    product = np.empty(vector.size)
    for i in range(vector.size):
        product[i] = _dot(matrix[i], vector)
    return product


@njit(cache=True, nogil=True)
def _quadratic(unit: np.ndarray, linear: np.ndarray, value: np.ndarray) -> float:
    return 0.5 * _dot(_times(unit, value), value) + _dot(linear, value)


@njit(cache=True, nogil=True)
def _cholesky(unit: np.ndarray, at: np.ndarray) -> NDArray[np.float64]:
    """The lower factor of unit[at, at]. A pivot that rounding took is as small as the ridge."""
    size = at.size
    factor = np.zeros((size, size))
    for i in range(size):
        for j in range(i):
            rest = unit[at[i], at[j]] - _dot(factor[i, :j], factor[j, :j])
            factor[i, j] = rest / factor[j, j]
        rest = unit[at[i], at[i]] - _dot(factor[i, :i], factor[i, :i])
        factor[i, i] = np.sqrt(max(rest, RIDGE))
    return factor


@njit(cache=True, nogil=True)
def _solve(factor: np.ndarray, side: np.ndarray) -> NDArray[np.float64]:
    """x with factor factor' x = side."""
    solution = side.copy()
    for i in range(side.size):
        solution[i] = (solution[i] - _dot(factor[i, :i], solution[:i])) / factor[i, i]
    for i in range(side.size - 1, -1, -1):
        solution[i] /= factor[i, i]
        solution[:i] -= solution[i] * factor[i, :i]
    return solution
