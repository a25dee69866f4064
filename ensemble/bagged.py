"""Bagged ensemble selection: greedy selection from random parts, averaged.

Caruana et al., "Ensemble selection from libraries of models", ICML 2004, section 2.3, draw members:
a few strong ones no longer decide alone what else is chosen. Rows are drawn as well, as in Breiman,
"Bagging predictors", 1996: members that a few rows flatter are chosen in few of the bags only. M
members, N rows, C classes.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from ensemble.candidates import Candidates, candidates, candidates_from_true_class
from ensemble.greedy import DEFAULT_STEPS, check_options, select
from ensemble.metrics import LOG_LOSS, Metric

DEFAULT_BAGS = 20


def bagged_greedy(
    probs: np.ndarray,
    labels: np.ndarray,
    metric: Metric,
    *,
    bags: int = DEFAULT_BAGS,
    member_fraction: float = 0.5,
    row_fraction: float | None = 1.0,
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    row_weights: np.ndarray | None = None,
) -> NDArray[np.float64]:
    """(M,) float64: the mean of the greedy weights of `bags` bags.

    `probs`: (M, N, C). `labels`: (N,). Each bag selects from its own `member_fraction` of the
    members, at least one, drawn without replacement, on its own `row_fraction` of the rows, drawn
    with replacement; None takes all rows as they are. `row_weights` (N,) multiply how often a row
    was drawn; rows of weight 0 are not drawn.

    Deterministic from `seed`. Members are drawn in an order that their predictions give, so that
    permuting the members permutes the weights, but for members with equal probabilities of every
    true class, which may take each other's place. Permuting the rows draws other bags. Raises
    ValueError as `greedy_weights` does, and for no bags, a `member_fraction` outside (0, 1] or a
    `row_fraction` that is not above 0.
    """
    _check(bags, member_fraction, row_fraction, steps)
    source = candidates(probs, labels, metric)
    return _average(source, bags, member_fraction, row_fraction, steps, seed, row_weights)


def bagged_from_true_class(
    p_true: np.ndarray,
    metric: Metric = LOG_LOSS,
    *,
    bags: int = DEFAULT_BAGS,
    member_fraction: float = 0.5,
    row_fraction: float | None = 1.0,
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    row_weights: np.ndarray | None = None,
) -> NDArray[np.float64]:
    """`bagged_greedy` for a metric that needs only `p_true` (M, N): the probability that each
    member gives to each row's true class."""
    _check(bags, member_fraction, row_fraction, steps)
    source = candidates_from_true_class(p_true, metric)
    return _average(source, bags, member_fraction, row_fraction, steps, seed, row_weights)


def _average(
    source: Candidates,
    bags: int,
    member_fraction: float,
    row_fraction: float | None,
    steps: int,
    seed: int,
    row_weights: np.ndarray | None,
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    source.check_row_weights(row_weights)
    members = _in_own_order(source)
    size = max(1, round(member_fraction * len(members)))
    total = np.zeros(len(members))
    for _ in range(bags):
        drawn = np.sort(members[rng.choice(len(members), size, replace=False)])
        weights = _drawn_rows(rng, source.n_rows, row_fraction, row_weights)
        total += select(source.bag(drawn, weights), steps=steps).weights
    return total / total.sum()


def _in_own_order(source: Candidates) -> NDArray[np.int64]:
    """All members, ordered by their predictions alone. Random bytes of them, not their quality:
    any order will do, and this one has no ties but of equal members."""
    keys = [_digest(row) for row in source.p_true]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__))


def _digest(values: np.ndarray) -> bytes:
    # As float64, so that the same numbers in float32 are in the same order.
    return hashlib.blake2b(np.asarray(values, np.float64).tobytes(), digest_size=16).digest()


def _drawn_rows(
    rng: np.random.Generator,
    n_rows: int,
    row_fraction: float | None,
    row_weights: np.ndarray | None,
) -> NDArray[np.float64] | None:
    if row_fraction is None:
        return row_weights
    rows = np.arange(n_rows) if row_weights is None else np.flatnonzero(row_weights)
    size = max(1, math.ceil(row_fraction * len(rows)))
    times = np.bincount(rng.choice(rows, size), minlength=n_rows).astype(np.float64)
    return times if row_weights is None else times * row_weights


def _check(bags: int, member_fraction: float, row_fraction: float | None, steps: int) -> None:
    check_options(steps)
    if bags < 1:
        raise ValueError(f"expected at least one bag, got {bags}")
    if not 0.0 < member_fraction <= 1.0:
        raise ValueError(f"expected member_fraction above 0 and up to 1, got {member_fraction}")
    if row_fraction is not None and not 0.0 < row_fraction < math.inf:
        raise ValueError(f"expected row_fraction above 0, or None, got {row_fraction}")
