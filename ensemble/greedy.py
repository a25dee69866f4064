"""Greedy selection with replacement.

Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models", ICML
2004: selection with replacement (section 2.1), sorted initialisation (2.2). The weights are those
of the best prefix of the selection. M members, N rows, C classes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.bags import NOBODY, Bag
from ensemble.candidates import candidates, candidates_from_true_class
from ensemble.metrics import LOG_LOSS, Metric

DEFAULT_STEPS = 25
# Losses closer than this share of their size are the same: sums in another order differ by less.
SAME = 1e-13
SAME_AS_ZERO = 1e-15


@dataclass(frozen=True, eq=False)
class Selection:
    """What was chosen, step by step. All scores are in-sample.

    order    (steps,) int64: members in order of choice; fewer where the time ran out
    scores   (steps,) float64: the metric's value of the mean after each step
    length   of the best prefix: where the score is best; if several, the lowest log loss, then
             the shortest
    weights  (M,) float64: how often each was chosen in that prefix, divided by its length
    """

    order: NDArray[np.int64]
    scores: NDArray[np.float64]
    length: int
    weights: NDArray[np.float64]


def greedy_selection(
    probs: np.ndarray,
    labels: np.ndarray,
    metric: Metric,
    *,
    steps: int = DEFAULT_STEPS,
    start: int = 0,
    row_weights: np.ndarray | None = None,
    time_limit_seconds: float | None = None,
) -> Selection:
    """Select `steps` times the member that helps the mean most.

    `probs`: (M, N, C). `labels`: (N,). `start`: as many of the best members, one each, are the
    first steps (they count in `steps`). `row_weights`: (N,) non-negative, None for all 1.
    `time_limit_seconds`: stop after the step during which it ran out, at least one; the only
    option with which the result depends on the machine.

    The blend is in-sample never worse than the best single member. Among members that help
    equally, those already chosen come first, then the lower log loss, then the lower index.
    Log loss, and metrics of decisions, are compiled: the first call takes seconds more. Any other
    metric is evaluated on the mean for every member and step.

    Raises ValueError on a shape mismatch, an unknown label, what is no probability (NaN is none),
    wrong row weights, or steps below 1.
    """
    check_options(steps, start, len(probs), time_limit_seconds)
    bag = candidates(probs, labels, metric).bag(row_weights=row_weights)
    return select(bag, steps=steps, start=start, time_limit_seconds=time_limit_seconds)


def greedy_weights(
    probs: np.ndarray,
    labels: np.ndarray,
    metric: Metric,
    *,
    steps: int = DEFAULT_STEPS,
    start: int = 0,
    row_weights: np.ndarray | None = None,
) -> NDArray[np.float64]:
    """The (M,) weights of `greedy_selection`."""
    return greedy_selection(
        probs, labels, metric, steps=steps, start=start, row_weights=row_weights
    ).weights


def select_from_true_class(
    p_true: np.ndarray,
    metric: Metric = LOG_LOSS,
    *,
    steps: int = DEFAULT_STEPS,
    start: int = 0,
    row_weights: np.ndarray | None = None,
    time_limit_seconds: float | None = None,
) -> Selection:
    """`greedy_selection` for a metric that needs only `p_true` (M, N): the probability that each
    member gives to each row's true class. Memory beside it: (N,) and (M, 64) float64. Raises
    ValueError also for a metric that needs more."""
    source = candidates_from_true_class(p_true, metric)
    check_options(steps, start, len(p_true), time_limit_seconds)
    bag = source.bag(row_weights=row_weights)
    return select(bag, steps=steps, start=start, time_limit_seconds=time_limit_seconds)


def greedy_from_true_class(
    p_true: np.ndarray,
    metric: Metric = LOG_LOSS,
    *,
    steps: int = DEFAULT_STEPS,
    start: int = 0,
    row_weights: np.ndarray | None = None,
) -> NDArray[np.float64]:
    """The (M,) weights of `select_from_true_class`."""
    return select_from_true_class(
        p_true, metric, steps=steps, start=start, row_weights=row_weights
    ).weights


def select(
    bag: Bag, *, steps: int, start: int = 0, time_limit_seconds: float | None = None
) -> Selection:
    """Fill an empty bag. Weights are of all M members, also where the bag takes only some."""
    began = time.monotonic()
    counts = np.zeros(bag.n_members, np.int64)
    order: list[int] = []
    losses: list[tuple[float, float]] = []
    best_alone: list[int] = []
    while len(order) < steps:
        now = bag.losses()
        if start and not order:
            best_alone = _best_alone(bag, now, start)
        position = best_alone.pop(0) if best_alone else _choose(bag, now, counts)
        member = bag.members[position]
        log_loss = bag.log_losses(bag.members[position : position + 1])[0]
        losses.append((float(now[position]), float(log_loss)))
        order.append(int(member))
        counts[member] += 1
        bag.add(int(member))
        if time_limit_seconds is not None and time.monotonic() - began >= time_limit_seconds:
            break
    length = _best_prefix(losses)
    chosen = np.bincount(order[:length], minlength=bag.n_members)
    scores = np.array([bag.metric.loss(loss) for loss, _ in losses])  # its own inverse
    return Selection(np.array(order), scores, length, chosen / length)


def is_better(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether (loss, log loss) `a` beats `b` by more than rounding: the log loss decides only
    between equal losses. NaN counts as the worst."""
    return _less(a[0], b[0]) or (not _less(b[0], a[0]) and _less(a[1], b[1]))


def lowest(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of the lowest of `losses` (m,) and of all that equal it but for rounding."""
    ranked = np.where(np.isnan(losses), np.inf, losses)
    low = ranked.min()
    slack = max(SAME * abs(low), SAME_AS_ZERO) if np.isfinite(low) else 0.0
    return np.flatnonzero(ranked <= low + slack)


def best_by_log_loss(bag: Bag, positions: NDArray[np.int64], removed: int = NOBODY) -> int:
    """Which of `positions` in `bag.members`, equal in the metric, has the lower log loss when
    added, then the lower index."""
    if len(positions) == 1:
        return int(positions[0])
    return int(positions[lowest(bag.log_losses(bag.members[positions], removed))[0]])


def _less(a: float, b: float) -> bool:
    a, b = (math.inf if math.isnan(x) else x for x in (a, b))
    return a < b and not math.isclose(a, b, rel_tol=SAME, abs_tol=SAME_AS_ZERO)


def _best_prefix(losses: list[tuple[float, float]]) -> int:
    best = 0
    for i in range(1, len(losses)):
        if is_better(losses[i], losses[best]):
            best = i
    return best + 1


def _choose(bag: Bag, losses: NDArray[np.float64], counts: NDArray[np.int64]) -> int:
    tied = lowest(losses)
    chosen = tied[counts[bag.members[tied]] > 0]
    return best_by_log_loss(bag, chosen if len(chosen) else tied)


def _best_alone(bag: Bag, losses: NDArray[np.float64], start: int) -> list[int]:
    """Positions of the `start` best members, the best first; equals as everywhere."""
    left = losses.copy()
    best: list[int] = []
    for _ in range(start):
        best.append(best_by_log_loss(bag, np.setdiff1d(lowest(left), best)))
        left[best[-1]] = np.inf
    return best


def check_options(
    steps: int, start: int = 0, n_members: int = 1, time_limit_seconds: float | None = None
) -> None:
    """Raise ValueError for what cannot be selected by."""
    if steps < 1:
        raise ValueError(f"expected at least one step, got {steps}")
    if not 0 <= start <= min(steps, n_members):
        raise ValueError(
            f"expected start from 0 to {min(steps, n_members)}, the fewer of steps and members, "
            f"got {start}"
        )
    if time_limit_seconds is not None and not time_limit_seconds >= 0:
        raise ValueError(f"expected time_limit_seconds of at least 0, got {time_limit_seconds}")
