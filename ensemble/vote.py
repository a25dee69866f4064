"""Hard voting: every member votes for its most probable class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ensemble.average import check_members, check_weights, in_blocks, mean_block


def hard_vote(probs: np.ndarray, weights: np.ndarray) -> NDArray[np.float64]:
    """Each class's share of the votes, with the members' mean as one more vote.

    (V share + mean) / (V + 1), where V = 1 / sum(w^2) is the number of voters, M for equal
    weights: the posterior mean of the shares under a Dirichlet prior worth one vote and centred on
    the mean. With equal weights the majority therefore wins, and the mean probability decides
    between classes with as many votes; a class without votes keeps a small share.

    `probs`: (M, n, C); a member whose most probable classes are equal divides its vote among them.
    `weights`: (M,), non-negative, summing to 1. Returns (n, C) float64, rows summing to 1. Raises
    ValueError on a shape mismatch or any NaN.
    """
    check_members(probs)
    check_weights(weights, len(probs))
    return in_blocks(probs, partial(vote_block, weights=weights))


def vote_block(members: Sequence[np.ndarray], weights: np.ndarray) -> NDArray[np.float64]:
    """`hard_vote` of a few rows, unchecked: `members` are M arrays (b, C)."""
    votes = np.zeros(members[0].shape)
    for proba, weight in zip(members, weights, strict=True):
        if weight:
            best = proba == proba.max(axis=1, keepdims=True)
            votes += best * (weight / best.sum(axis=1, keepdims=True))
    votes /= float(np.square(weights).sum())
    votes += mean_block(members, weights)
    votes /= votes.sum(axis=1, keepdims=True)
    return votes
