"""The optimum of log loss over all weighted means, with a certificate of how near it is.

minimise  -mean_n log(sum_j w_j T_jn) + l2 M / 2 sum_j (w_j - 1/M)^2  over the simplex, with T the
probabilities of the true class: the maximum-likelihood mixture proportions where l2 is 0. Solved
by sequential quadratic programming on an active set, after Kim, Carbonetto, Stephens and Anitescu,
"A fast algorithm for maximum likelihood estimation of mixture proportions", J. Comput. Graph.
Stat. 29, 2020; a sample of the rows finds the neighbourhood, all rows the place. The gap is that
of Frank and Wolfe 1956.

With M_eff = 1 / sum_j w_j^2, the effective number of members, the pull to equal weights is
l2 / 2 (M / M_eff - 1): l2 is in nats per row, and half of it is what blending only half of the
members costs. As l2 grows, the weights become equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ensemble.average import check_members, check_weights, true_class_matrix
from ensemble.convex_kernels import active_set, products_over_rows, slopes_of_blend
from ensemble.metrics import LOG_LOSS, Metric
from ensemble.row_weights import row_shares
from ensemble.simplex_quadratic import simplex_quadratic_optimum

GAP = 1e-7  # nats per row; the promise is 1e-6
SAMPLE_GAP = 1e-3  # of the sample's own optimum, which is further than that from the whole's
SAMPLE_ROWS = 2000
CURVATURE_ROWS = 8000  # their Hessian is near enough to that of all rows
CURVATURE_WORK = 8  # as many pairs' products cost little more than one member's slope
FINER = 4
HALF = 0.5  # of the gap: a step that leaves more took its curvature from too few rows
MAX_ROUNDS = 500
START_MEMBERS = 16
NEW_MEMBERS = 8  # at least so many may join the active set at once
NEGLIGIBLE = 1e-6  # a member of less weight is dropped where the gap allows it
FULL_STEP_HALVINGS = 40


@dataclass(frozen=True)
class _Point:
    """`weights` (M,), 1 over their blend's probability of the true class (N,), the objective's
    derivatives in the weights (M,), and the gap."""

    weights: NDArray[np.float64]
    inverse: NDArray[np.float64]
    gradient: NDArray[np.float64]
    gap: float


@dataclass(frozen=True)
class _Problem:
    """`p_true` (M, N), the rows' `shares` (N,) that sum to 1, and the pull to equal weights."""

    p_true: np.ndarray
    shares: NDArray[np.float64]
    l2: float

    @property
    def pull(self) -> float:
        """The second derivative of the pull in each weight."""
        return self.l2 * len(self.p_true)

    @cached_property
    def roots(self) -> NDArray[np.float64]:
        """(N,): taken once, every Hessian needs them."""
        return np.asarray(np.sqrt(self.shares))

    def at(self, weights: NDArray[np.float64]) -> _Point:
        members = np.flatnonzero(weights)
        inverse, sums = slopes_of_blend(self.p_true, members, weights[members], self.shares)
        gradient = -sums
        if self.l2:
            gradient += self.pull * (weights - 1.0 / len(weights))
        return _Point(weights, inverse, gradient, float(weights @ gradient - gradient.min()))

    def value(self, point: _Point) -> float:
        loss = float(self.shares @ np.log(point.inverse))
        if self.l2:
            loss += 0.5 * self.pull * float(np.sum((point.weights - 1.0 / len(self.p_true)) ** 2))
        return loss

    def hessian(self, members: np.ndarray, point: _Point, stride: int) -> NDArray[np.float64]:
        """(k, k): the second derivatives in the weights of `members` (k,), from every `stride`th
        row alone where these have any weight."""
        total = 1.0 if stride == 1 else float(self.shares[::stride].sum())
        if not total > 0.0:
            return self.hessian(members, point, 1)
        hessian = products_over_rows(self.p_true, members, self.roots, point.inverse, stride)
        if stride > 1:
            hessian /= total
        if self.l2:
            hessian[np.diag_indices_from(hessian)] += self.pull
        return np.asarray(hessian)

    def sample(self) -> _Problem | None:
        """The same question to some of the rows, None where there are too few for that."""
        stride = len(self.shares) // SAMPLE_ROWS
        if stride < 2:
            return None
        shares = self.shares[::stride]
        total = shares.sum()
        if not total > 0.0:
            return None
        return _Problem(np.ascontiguousarray(self.p_true[:, ::stride]), shares / total, self.l2)


def convex_weights(
    probs: np.ndarray,
    labels: np.ndarray,
    metric: Metric = LOG_LOSS,
    *,
    l2: float = 0.0,
    row_weights: np.ndarray | None = None,
) -> NDArray[np.float64]:
    """The weights of least log loss, whatever `metric` asks for.

    `probs`: (members, samples, classes). `labels`: (samples,). `l2`, `row_weights` as in
    `fit_convex`. Returns (members,) float64, most of them usually 0. Raises ValueError on a shape
    mismatch or any NaN.
    """
    check_members(probs, labels)
    return fit_convex(true_class_matrix(probs, labels), l2=l2, row_weights=row_weights)[0]


def convex_certificate(
    p_true: np.ndarray,
    weights: np.ndarray,
    *,
    l2: float = 0.0,
    row_weights: np.ndarray | None = None,
) -> float:
    """How much of the objective (nats per row) any other weights could gain at most over `weights`
    (members,): max_j gradient'(w - e_j), the duality gap of Frank and Wolfe 1956; where l2 is 0,
    max_j mean(T_j / p) - 1, with `p_true` T (members, samples) floored at 1e-7 and p their blend.
    Never below 0 but for rounding. Arguments and errors as in `fit_convex`."""
    problem = _problem(p_true, l2, row_weights)
    check_weights(weights, len(p_true))
    return problem.at(weights.astype(np.float64)).gap


def fit_convex(
    p_true: np.ndarray, *, l2: float = 0.0, row_weights: np.ndarray | None = None
) -> tuple[NDArray[np.float64], float]:
    """Weights (members,) of the least mean log loss plus pull, and their gap as
    `convex_certificate` gives it: at most 1e-6. Deterministic.

    `p_true`: (members, samples), float32 or float64, read as it is (any other type or memory order
    is copied first); probabilities below 1e-7 count as 1e-7, as in the metric. `l2`: nats per row,
    0 or more, see above. `row_weights`: (samples,), None for all 1. Raises ValueError on NaN, on a
    shape that is not (members, samples), and on an impossible l2 or row weight.
    """
    problem = _problem(p_true, l2, row_weights)
    sample = problem.sample()
    if sample is None:
        weights = _start(problem)
    else:
        weights, _ = _optimum(sample, _start(sample), SAMPLE_GAP)
    weights, gap = _optimum(problem, weights, GAP)
    return _without_negligible(problem, weights, gap)


def _problem(p_true: np.ndarray, l2: float, row_weights: np.ndarray | None) -> _Problem:
    if p_true.ndim != 2 or not p_true.size:
        raise ValueError(
            f"expected true-class probabilities (members, samples), got {p_true.shape}"
        )
    if np.isnan(p_true.min()):
        member = int(np.argmax(np.isnan(p_true).any(axis=1)))
        raise ValueError(f"expected true-class probabilities, got NaN for member {member}")
    if not (math.isfinite(l2) and l2 >= 0.0):
        raise ValueError(f"expected an l2 of 0 or more nats, got {l2}")
    shares = row_shares(row_weights, p_true.shape[1])
    dtype = np.float32 if p_true.dtype == np.float32 else np.float64
    return _Problem(np.ascontiguousarray(p_true, dtype=dtype), shares, l2)


def _start(problem: _Problem) -> NDArray[np.float64]:
    """Equal weights of the members that equal weights of all would gain most from: from inside the
    simplex Newton's steps are well scaled."""
    n_members = len(problem.p_true)
    weights = np.full(n_members, 1.0 / n_members)
    if n_members > START_MEMBERS:
        first = np.argsort(problem.at(weights).gradient, kind="stable")[:START_MEMBERS]
        weights = np.zeros(n_members)
        weights[first] = 1.0 / len(first)
    return weights


def _optimum(
    problem: _Problem, weights: NDArray[np.float64], enough: float
) -> tuple[NDArray[np.float64], float]:
    """Weights with a gap of at most `enough`, searched from `weights` on, and that gap."""
    best = point = problem.at(weights)
    finer = 1
    for _ in range(MAX_ROUNDS):
        if best.gap <= enough:
            break
        point = _newton_step(problem, point, finer)
        if point.gap > HALF * best.gap:
            finer *= FINER
        if point.gap < best.gap:
            best = point
    return best.weights, best.gap


def _stride(problem: _Problem, n_active: int, finer: int) -> int:
    """The curvature is taken from every so manieth row: from as many as cost about what the slopes
    cost, and `finer` times as many where that led on too slowly."""
    n_members, n_rows = problem.p_true.shape
    wide = min(n_rows // CURVATURE_ROWS, n_active**2 // (CURVATURE_WORK * n_members))
    return max(1, wide // finer)


def _newton_step(problem: _Problem, point: _Point, finer: int) -> _Point:
    """One constrained Newton step on the active set, shortened until the gap is halved or the
    objective falls: who halves the gap needs no logarithms to know that it converges."""
    weights, gradient = point.weights, point.gradient
    active = active_set(weights, gradient, NEW_MEMBERS)
    target = np.zeros_like(weights)
    hessian = problem.hessian(active, point, _stride(problem, active.size, finer))
    target[active] = simplex_quadratic_optimum(hessian, gradient[active], weights[active])
    stepped = problem.at(target)
    if stepped.gap <= HALF * point.gap:
        return stepped
    slope = float((target - weights) @ gradient)
    before = problem.value(point)
    step = 1.0
    for _ in range(FULL_STEP_HALVINGS):
        if problem.value(stepped) <= before + 0.1 * step * slope:
            return stepped
        step /= 2.0
        stepped = problem.at(weights + step * (target - weights))
    # No room left for float64 along this direction: one step of expectation-maximisation
    # (Dempster, Laird and Rubin 1977), which without a pull cannot make it worse.
    multiplied = weights * np.maximum(1.0 + weights @ gradient - gradient, 0.0)
    return problem.at(multiplied / multiplied.sum())


def _without_negligible(
    problem: _Problem, weights: NDArray[np.float64], gap: float
) -> tuple[NDArray[np.float64], float]:
    """Drop tiny weights (each would cost a whole model at prediction time) if that is free."""
    kept = np.where(weights < NEGLIGIBLE, 0.0, weights)
    if np.array_equal(kept, weights):
        return weights, gap
    point = problem.at(kept / kept.sum())
    return (point.weights, point.gap) if point.gap <= max(gap, GAP) else (weights, gap)
