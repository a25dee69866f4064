"""The optimum of log loss over all weighted means, with a certificate of how near it is.

minimise  -mean_n log(sum_j w_j T_jn)  over the simplex, with T the probabilities of the true
class: the maximum-likelihood mixture proportions. Solved by sequential quadratic programming on
an active set, after Kim, Carbonetto, Stephens and Anitescu, "A fast algorithm for maximum
likelihood estimation of mixture proportions", J. Comput. Graph. Stat. 29, 2020: with sum(w) added
to the objective only w >= 0 is left as constraint, and the optimum sums to 1 by itself. The gap is
that of Frank and Wolfe 1956.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ensemble.average import check_members, check_weights, true_class_matrix
from ensemble.metrics import LOG_LOSS, LOG_LOSS_FLOOR, Metric

GAP = 1e-7  # nats per row; the promise is 1e-6
MAX_ROUNDS = 500
START_MEMBERS = 16
NEW_MEMBERS = 8  # how many join the active set at once
RIDGE = 1e-12  # of a unit diagonal: members may be copies of one another
NEGLIGIBLE = 1e-6  # a member of less weight is dropped where the gap allows it
FULL_STEP_HALVINGS = 40


def convex_weights(
    probs: np.ndarray, labels: np.ndarray, metric: Metric = LOG_LOSS
) -> NDArray[np.float64]:
    """The weights of least log loss, whatever `metric` asks for.

    `probs`: (members, samples, classes). `labels`: (samples,). Returns (members,) float64, most
    of them usually 0. Raises ValueError on a shape mismatch or any NaN.
    """
    check_members(probs, labels)
    return fit_convex(true_class_matrix(probs, labels))[0]


def convex_certificate(p_true: np.ndarray, weights: np.ndarray) -> float:
    """How much log loss (nats per row) any other weights could gain at most over `weights`
    (members,): max_j mean(T_j / p) - 1, with `p_true` T (members, samples) floored at 1e-7 and p
    their blend. Never below 0 but for rounding."""
    check_weights(weights, len(p_true))
    matrix = _floored(p_true)
    return _gap(_gradient(matrix, weights @ matrix))


def fit_convex(p_true: np.ndarray) -> tuple[NDArray[np.float64], float]:
    """Weights (members,) of least log loss for `p_true` (members, samples), and their gap as
    `convex_certificate` gives it: at most 1e-6. Deterministic. Probabilities below 1e-7 count as
    1e-7, as in the metric. Raises ValueError on NaN or a shape that is not (members, samples)."""
    if p_true.ndim != 2 or not p_true.size:
        raise ValueError(
            f"expected true-class probabilities (members, samples), got {p_true.shape}"
        )
    if np.isnan(p_true.min()):
        raise ValueError("expected true-class probabilities, got NaN")
    matrix = _floored(p_true)
    matrix /= matrix.max(axis=0)  # changes nothing but the numbers' range
    weights = _start(matrix)
    best, best_gap = weights, np.inf
    for _ in range(MAX_ROUNDS):
        gradient = _gradient(matrix, weights @ matrix)
        gap = _gap(gradient)
        if gap < best_gap:
            best, best_gap = weights, gap
        if gap <= GAP:
            break
        active = _active_set(weights, gradient)
        weights = weights.copy()
        weights[active] = _newton_step(matrix[active], weights[active])
    return _without_negligible(matrix, best, max(best_gap, GAP))


def _floored(p_true: np.ndarray) -> NDArray[np.float64]:
    return np.maximum(p_true, LOG_LOSS_FLOOR, dtype=np.float64)


def _gradient(matrix: np.ndarray, blend: np.ndarray) -> NDArray[np.float64]:
    """(members,): mean(T_j / p), which is minus the derivative of the log loss in w_j."""
    return matrix @ (1.0 / blend) / matrix.shape[1]


def _gap(gradient: np.ndarray) -> float:
    return float(gradient.max() - 1.0)


def _start(matrix: np.ndarray) -> NDArray[np.float64]:
    """Equal weights of the members that are best alone: from inside the simplex Newton's steps are
    well scaled."""
    alone = np.log(matrix).mean(axis=1)
    first = np.argsort(-alone, kind="stable")[:START_MEMBERS]
    weights = np.zeros(len(matrix))
    weights[first] = 1.0 / len(first)
    return weights


def _active_set(weights: np.ndarray, gradient: np.ndarray) -> NDArray[np.intp]:
    """Members with weight, and the outsiders that promise most."""
    promise = np.where((weights == 0) & (gradient > 1.0), gradient, -np.inf)
    outsiders = np.argsort(-promise, kind="stable")[:NEW_MEMBERS]
    joined = weights > 0
    joined[outsiders[np.isfinite(promise[outsiders])]] = True
    return np.flatnonzero(joined)


def _newton_step(matrix: np.ndarray, weights: np.ndarray) -> NDArray[np.float64]:
    """One constrained Newton step for the active `matrix` (active, samples), shortened until the
    objective falls. Returns weights that sum to 1."""
    blend = weights @ matrix
    target = _quadratic_optimum(matrix / blend)
    direction = target - weights
    slope = float(direction @ (1.0 - _gradient(matrix, blend)))
    before = _objective(blend, weights)
    step = 1.0
    for _ in range(FULL_STEP_HALVINGS):
        stepped = weights + step * direction if step < 1.0 else target
        if _objective(stepped @ matrix, stepped) <= before + 0.1 * step * slope:
            break
        step /= 2.0
    else:
        # No room left for float64 along this direction: one step of expectation-maximisation
        # (Dempster, Laird and Rubin 1977), which cannot make it worse.
        stepped = weights * _gradient(matrix, blend)
    return stepped / stepped.sum()


def _objective(blend: np.ndarray, weights: np.ndarray) -> float:
    if blend.min() <= 0:
        return np.inf
    return float(weights.sum() - np.mean(np.log(blend)))


def _quadratic_optimum(ratio: np.ndarray) -> NDArray[np.float64]:
    """argmin over v >= 0 of the objective's quadratic model, with `ratio` T / p (active, samples).

    The model is v'Hv / 2 - v'(2a - 1) with H = ratio ratio' / N and a = mean(ratio): turned into
    non-negative least squares by H's Cholesky factor, on a unit diagonal.
    """
    n_rows = ratio.shape[1]
    hessian = ratio @ ratio.T / n_rows
    scale = np.sqrt(np.diag(hessian))
    unit = hessian / np.outer(scale, scale)
    unit[np.diag_indices_from(unit)] += RIDGE * len(unit)
    linear = (2.0 * ratio.mean(axis=1) - 1.0) / scale
    factor = np.linalg.cholesky(unit)
    solution, _ = nnls(factor.T, np.linalg.solve(factor, linear), maxiter=30 * len(unit))
    return np.asarray(solution) / scale


def _without_negligible(
    matrix: np.ndarray, weights: np.ndarray, allowed_gap: float
) -> tuple[NDArray[np.float64], float]:
    """Drop tiny weights (each would cost a whole model at prediction time) if that is free."""
    gap = _gap(_gradient(matrix, weights @ matrix))
    kept = np.where(weights < NEGLIGIBLE, 0.0, weights)
    kept /= kept.sum()
    kept_gap = _gap(_gradient(matrix, kept @ matrix))
    return (kept, kept_gap) if kept_gap <= allowed_gap else (weights, gap)
