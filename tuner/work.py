"""What the race gives a free slot to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StartFold:
    """Work: train this fold, from its checkpoint where there is one."""

    config_id: str
    fold: int


@dataclass(frozen=True)
class Propose:
    """Work: ask the sampler for a configuration."""


@dataclass(frozen=True)
class AskPromotion:
    """Work: tell the race that a slot is idle; it may promote somebody."""


@dataclass(frozen=True)
class Wait:
    """Nothing to hand out until something running ends."""


@dataclass(frozen=True)
class Done:
    """The race is over."""


Work = StartFold | Propose | AskPromotion | Wait | Done
