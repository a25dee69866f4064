"""Asynchronous successive halving on the probe fold, as pure functions of reported losses.

Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning, arXiv:1810.05934,
in its stopping form: at a rung, a run goes on when it is in the best 1/reduction_factor of all
runs that have reached this rung so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PruningRule:
    """See `search_spaces.config.PruningConfig`, whose values these are."""

    enabled: bool
    min_epochs: int
    reduction_factor: float
    across_backbones_from: float

    def is_rung(self, epoch: int, epochs: int) -> bool:
        """Whether runs are compared after `epoch` (from 1) of `epochs`; never after the last."""
        return self.enabled and epoch in self._rungs(epochs)

    def across_backbones(self, epoch: int, epochs: int) -> bool:
        """Early on a fast starter of one kind says little about a slow starter of another."""
        return epoch >= self.across_backbones_from * epochs

    def _rungs(self, epochs: int) -> list[int]:
        rungs: list[int] = []
        power = 0
        while (rung := round(self.min_epochs * self.reduction_factor**power)) < epochs:
            rungs.append(rung)
            power += 1
        return rungs


@dataclass(frozen=True)
class Verdict:
    """`rank` counts from 1 among `peers` runs, the judged one included; `kept` went on."""

    stop: bool
    rank: int
    peers: int
    kept: int


def judge(loss: float, peer_losses: Sequence[float], reduction_factor: float) -> Verdict:
    """Stop a run with `loss` (smaller is better) at a rung that `peer_losses` reached before?

    A tie goes to whoever came first. NaN is worse than anything."""
    peers = len(peer_losses) + 1
    kept = math.ceil(peers / reduction_factor)
    if math.isnan(loss):
        return Verdict(True, peers, peers, kept)
    rank = 1 + sum(1 for other in peer_losses if other <= loss)
    return Verdict(rank > kept, rank, peers, kept)
