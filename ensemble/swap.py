"""Exchange one member at a time, from greedy's combination on, as people do by hand.

Greedy selection never takes back what it chose early. Here one chosen copy of a member leaves for
one of another, whichever exchange helps most, until none helps: a combination of as many members
that no single exchange improves. M members, N rows, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble.bags import Bag
from ensemble.candidates import candidates, candidates_from_true_class
from ensemble.greedy import (
    DEFAULT_STEPS,
    Selection,
    best_by_log_loss,
    check_options,
    is_better,
    lowest,
    select,
)
from ensemble.metrics import LOG_LOSS, Metric

MAX_ROUNDS = 100

Loss = tuple[float, float]  # the metric's, then log loss


def swap_weights(
    probs: np.ndarray,
    labels: np.ndarray,
    metric: Metric,
    *,
    steps: int = DEFAULT_STEPS,
    row_weights: np.ndarray | None = None,
    max_rounds: int = MAX_ROUNDS,
) -> NDArray[np.float64]:
    """(M,) float64 weights: greedy selection's (`steps`), improved by at most `max_rounds`
    exchanges; in-sample never worse than greedy's.

    `probs`: (M, N, C). `labels`: (N,). `row_weights`: (N,) or None for all 1. Each round takes the
    exchange with the best metric, then the best log loss, then the lowest indices; it costs as
    much as one step of greedy for every different member chosen. Raises ValueError as
    `greedy_weights` does, and for a negative `max_rounds`.
    """
    _check(steps, max_rounds)
    bag = candidates(probs, labels, metric).bag(row_weights=row_weights)
    return _weights(bag, steps, max_rounds)


def swap_from_true_class(
    p_true: np.ndarray,
    metric: Metric = LOG_LOSS,
    *,
    steps: int = DEFAULT_STEPS,
    row_weights: np.ndarray | None = None,
    max_rounds: int = MAX_ROUNDS,
) -> NDArray[np.float64]:
    """`swap_weights` for a metric that needs only `p_true` (M, N): the probability that each
    member gives to each row's true class."""
    _check(steps, max_rounds)
    bag = candidates_from_true_class(p_true, metric).bag(row_weights=row_weights)
    return _weights(bag, steps, max_rounds)


def _check(steps: int, max_rounds: int) -> None:
    check_options(steps)
    if max_rounds < 0:
        raise ValueError(f"expected max_rounds of at least 0, got {max_rounds}")


def _weights(bag: Bag, steps: int, max_rounds: int) -> NDArray[np.float64]:
    chosen = _improve(bag, select(bag, steps=steps), max_rounds)
    return np.bincount(chosen, minlength=bag.n_members) / len(chosen)


def _improve(bag: Bag, selection: Selection, max_rounds: int) -> list[int]:
    chosen = sorted(selection.order[: selection.length].tolist())
    _fill(bag, chosen)
    now = _loss_of(bag, chosen)
    for _ in range(max_rounds):
        loss, leaving, joining = _best_exchange(bag, chosen)
        if not is_better(loss, now):
            break
        chosen.remove(leaving)
        chosen = sorted([*chosen, joining])
        _fill(bag, chosen)
        now = loss
    return chosen


def _fill(bag: Bag, chosen: list[int]) -> None:
    # Anew and not by difference: rounding does not add up over rounds.
    bag.clear()
    for member in chosen:
        bag.add(member)


def _loss_of(bag: Bag, chosen: list[int]) -> Loss:
    """Of the bag as it is: the first chosen leaves and comes back."""
    back = bag.members[bag.members == chosen[0]]
    loss = bag.losses(chosen[0])[bag.members == chosen[0]]
    return float(loss[0]), float(bag.log_losses(back, chosen[0])[0])


def _best_exchange(bag: Bag, chosen: list[int]) -> tuple[Loss, int, int]:
    """The loss after the best exchange, who leaves and who joins."""
    best: tuple[Loss, int, int] | None = None
    for leaving in sorted(set(chosen)):
        losses = bag.losses(leaving)
        position = best_by_log_loss(bag, lowest(losses), leaving)
        joining = bag.members[position : position + 1]
        loss = float(losses[position]), float(bag.log_losses(joining, leaving)[0])
        if best is None or is_better(loss, best[0]):
            best = loss, leaving, int(joining[0])
    assert best is not None  # somebody was chosen
    return best
