"""Which configurations earn their remaining folds: by rank on the probe fold.

This is the seam for promotion by what a configuration adds to the ensemble: a rule is a pure
function from a `Standing` to promotions, and the race asks whichever rule it was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A configuration that finished the probe fold. `loss`: smaller is better."""

    config_id: str
    loss: float
    backbone: str = ""


@dataclass(frozen=True)
class Standing:
    """What the rule may look at.

    waiting: finished on the probe fold, not promoted. promoted: promoted and not failed since.
    ended: configurations whose probe fold is over (finished, pruned or failed).
    expected: how many configurations the budget allows in all, None where it cannot be known.
    idle: slots that would stand still otherwise, and no new configuration may be proposed."""

    waiting: Sequence[Candidate]
    promoted: Sequence[Candidate]
    ended: int
    expected: int | None
    members: int
    idle: int = 0


@dataclass(frozen=True)
class Promotion:
    config_id: str
    why: str


PromotionRule = Callable[[Standing], list[Promotion]]

# Where nobody knows how many configurations will come: one promotion for so many that ended.
UNKNOWN_PACE = 4


def by_rank(standing: Standing) -> list[Promotion]:
    """The best by probe-fold score, at the pace at which the budget is used up.

    After a share s of the expected configurations the share s**2 of the members is promoted: a
    quarter after the first half, when little is known, the rest as the picture fills. So full
    folds start early, no stage waits for another, and late comers still find a place. Idle slots
    are given to the best that wait, whatever the pace."""
    return _promote(standing, sorted(standing.waiting, key=_rank))


def by_rank_each_backbone(standing: Standing) -> list[Promotion]:
    """As `by_rank`, but the best of a backbone that has no member yet comes before a second
    configuration of any."""
    ranked = sorted(standing.waiting, key=_rank)
    has_member = {one.backbone for one in standing.promoted}
    first = [
        one
        for place, one in enumerate(ranked)
        if one.backbone not in {*has_member, *(other.backbone for other in ranked[:place])}
    ]
    return _promote(standing, first + [one for one in ranked if one not in first])


def _promote(standing: Standing, candidates: Sequence[Candidate]) -> list[Promotion]:
    """As many of the first candidates as are due."""
    free = standing.members - len(standing.promoted)
    wanted = min(free, _due(standing) + standing.idle)
    finished = [*standing.waiting, *standing.promoted]
    return [Promotion(one.config_id, _why(one, finished)) for one in candidates[: max(0, wanted)]]


def _due(standing: Standing) -> int:
    if standing.expected is None:
        quota = standing.ended // UNKNOWN_PACE
    else:
        share = min(1.0, standing.ended / max(1, standing.expected))
        quota = math.floor(standing.members * share**2)
    return max(0, quota - len(standing.promoted))


def _rank(one: Candidate) -> tuple[float, str]:
    return _order(one.loss), one.config_id


def _order(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss


def _why(one: Candidate, finished: Sequence[Candidate]) -> str:
    rank = 1 + sum(1 for other in finished if _order(other.loss) < _order(one.loss))
    return f"rank {rank} of {len(finished)} finished on the probe fold"
