"""The minimum of a convex quadratic over the simplex: an active-set method, compiled.

Nocedal and Wright, "Numerical Optimization", 2nd edition, algorithm 16.3, with every member in the
first working set, and several put out of it at once where that lowers the objective. Written in
plain loops: numba takes seconds to compile whole-array expressions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble.kernels import compiled, inlined

RIDGE = 1e-12  # of a unit diagonal: members may be copies of one another
TINY = 1e-14


@compiled()
def simplex_quadratic_optimum(
    hessian: np.ndarray, gradient: np.ndarray, start: np.ndarray
) -> NDArray[np.float64]:
    """argmin over v >= 0 with sum(v) = 1 of gradient'd + d'hessian d / 2, with d = v - start.

    `hessian`: (k, k) positive semidefinite with a positive diagonal. `gradient`, `start`: (k,);
    `start` is on the simplex. Never worse than `start` but for rounding, also where rounding ends
    the search early. All float64, C-contiguous.
    """
    size = start.size
    unit = np.empty((size, size))
    ones = np.empty(size)
    value = np.empty(size)
    linear = np.empty(size)
    _on_unit_diagonal(hessian, gradient, start, unit, ones, linear, value)
    working = np.ones(size, np.bool_)
    solution = np.empty(size)
    slope = np.empty(size)
    for _ in range(10 * size + 10):
        _minimum(unit, linear, ones, working, solution)
        below = False
        for i in range(size):
            below = below or solution[i] < 0.0
        if below:
            _towards(unit, linear, ones, solution, working, value)
            continue
        for i in range(size):
            value[i] = solution[i]
        for i in range(size):
            slope[i] = (_dot(unit[i], value) + linear[i]) / ones[i]
        entering = _entering(slope, working)
        if entering < 0:
            break
        working[entering] = True
    total = _dot(ones, value)
    for i in range(size):
        value[i] *= ones[i] / total
    return value


@inlined()
def _on_unit_diagonal(
    hessian: np.ndarray,
    gradient: np.ndarray,
    start: np.ndarray,
    unit: np.ndarray,
    ones: np.ndarray,
    linear: np.ndarray,
    value: np.ndarray,
) -> None:
    """The same question about u = scale v: u'unit u / 2 + linear'u over u >= 0 with ones'u = 1,
    from u = `value` on; so that the ridge means the same for every member."""
    size = start.size
    for i in range(size):
        ones[i] = 1.0 / np.sqrt(hessian[i, i])
        value[i] = start[i] / ones[i]
    for i in range(size):
        for j in range(size):
            unit[i, j] = hessian[i, j] * ones[i] * ones[j]
        unit[i, i] += RIDGE * size
        linear[i] = gradient[i] * ones[i] - _dot(unit[i], value)


@inlined()
def _towards(
    unit: np.ndarray,
    linear: np.ndarray,
    ones: np.ndarray,
    solution: np.ndarray,
    working: np.ndarray,
    value: np.ndarray,
) -> None:
    """Move `value` towards `solution`, which has members below 0: to it with those at 0 where that
    is better than `value`, else as far as the first of them allows. `working` loses who ends at
    0."""
    clipped = np.empty(value.size)
    for i in range(value.size):
        clipped[i] = max(solution[i], 0.0)
    total = _dot(ones, clipped)
    for i in range(value.size):
        clipped[i] /= total
    if _quadratic(unit, linear, clipped) < _quadratic(unit, linear, value):
        for i in range(value.size):
            value[i] = clipped[i]
            working[i] = working[i] and solution[i] >= 0.0
        return
    room = 1.0
    for i in range(value.size):
        if solution[i] < 0.0:
            room = min(room, value[i] / (value[i] - solution[i]))
    for i in range(value.size):
        value[i] += room * (solution[i] - value[i])
        if solution[i] < 0.0 and value[i] * ones[i] <= TINY:
            working[i] = False
            value[i] = 0.0


@inlined()
def _entering(slope: np.ndarray, working: np.ndarray) -> int:
    """The member outside `working` that would lower the objective most, -1 where none would."""
    level = 0.0
    count = 0
    for i in range(slope.size):
        if working[i]:
            level += slope[i]
            count += 1
    level /= count
    best = -1
    lowest = level - 1e-13 * (1.0 + abs(level))
    for i in range(slope.size):
        if not working[i] and slope[i] < lowest:
            best = i
            lowest = slope[i]
    return best


@inlined()
def _minimum(
    unit: np.ndarray,
    linear: np.ndarray,
    ones: np.ndarray,
    working: np.ndarray,
    solution: np.ndarray,
) -> None:
    """solution = argmin of u'unit u / 2 + linear'u with ones'u = 1, where only `working` may
    differ from 0: the sum's multiplier from two solutions with one Cholesky factor."""
    size = 0
    at = np.empty(working.size, np.int64)
    for i in range(working.size):
        solution[i] = 0.0
        if working[i]:
            at[size] = i
            size += 1
    factor = np.zeros((size, size))
    free = np.empty(size)
    pull = np.empty(size)
    for i in range(size):
        free[i] = -linear[at[i]]
        pull[i] = ones[at[i]]
        for j in range(i + 1):
            factor[i, j] = unit[at[i], at[j]]
    _cholesky(factor)
    _solve(factor, free)
    _solve(factor, pull)
    sum_free = 0.0
    sum_pull = 0.0
    for i in range(size):
        sum_free += ones[at[i]] * free[i]
        sum_pull += ones[at[i]] * pull[i]
    level = (sum_free - 1.0) / sum_pull
    for i in range(size):
        solution[at[i]] = free[i] - level * pull[i]


@inlined(
    fastmath=(
        "contract",
        "reassoc",
    )
)
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@inlined()
def _quadratic(unit: np.ndarray, linear: np.ndarray, value: np.ndarray) -> float:
    total = 0.0
    for i in range(value.size):
        total += value[i] * (0.5 * _dot(unit[i], value) + linear[i])
    return total


@inlined()
def _cholesky(factor: np.ndarray) -> None:
    """The lower factor of the matrix whose lower half is `factor`, in place. A pivot that rounding
    took is as small as the ridge."""
    for i in range(len(factor)):
        for j in range(i):
            rest = factor[i, j] - _dot(factor[i, :j], factor[j, :j])
            factor[i, j] = rest / factor[j, j]
        rest = factor[i, i] - _dot(factor[i, :i], factor[i, :i])
        factor[i, i] = np.sqrt(max(rest, RIDGE))


@inlined()
def _solve(factor: np.ndarray, side: np.ndarray) -> None:
    """side = x with factor factor' x = side."""
    for i in range(side.size):
        side[i] = (side[i] - _dot(factor[i, :i], side[:i])) / factor[i, i]
    for i in range(side.size - 1, -1, -1):
        side[i] /= factor[i, i]
        for j in range(i):
            side[j] -= side[i] * factor[i, j]
