"""The words of the race: what happened, and what was decided because of it.

Both are frozen values with a plain JSON form, because the journal is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

# --- what happened ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proposed:
    """The sampler proposed a configuration. `params` are Optuna's own, to rebuild its study."""

    config_id: str
    number: int
    backbone: str
    epochs: int
    configuration: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SpaceExhausted:
    """The sampler has no configuration left that was not proposed before."""


@dataclass(frozen=True)
class Started:
    """A fold run was handed to a worker."""

    config_id: str
    fold: int


@dataclass(frozen=True)
class Reported:
    """A fold run finished an epoch (counted from 1), and it was not the last. `node`: address of
    the machine, "" where nobody told."""

    config_id: str
    fold: int
    epoch: int
    metrics: Mapping[str, float]
    node: str = ""


@dataclass(frozen=True)
class Finished:
    """A fold run finished its last epoch and its files are complete. `node` as above."""

    config_id: str
    fold: int
    epoch: int
    metrics: Mapping[str, float]
    node: str = ""


@dataclass(frozen=True)
class Failed:
    """A fold run ended with an error. `retry`: trying again may help. `traceback`: "" where the
    worker died without one. `node_lost`: it went away with the machine under it (a spot worker
    taken back, a cable), which says nothing about the fold run."""

    config_id: str
    fold: int
    error: str
    retry: bool = True
    traceback: str = ""
    node_lost: bool = False


@dataclass(frozen=True)
class SlotIdle:
    """A slot has nothing to do although configurations wait for promotion."""


@dataclass(frozen=True)
class DeadlinePassed:
    """The hours of the budget are over: nothing new begins, what was promoted is completed."""


@dataclass(frozen=True)
class Resumed:
    """The search was started again: whatever was running has to be taken up once more."""


Event = (
    Proposed
    | SpaceExhausted
    | Started
    | Reported
    | Finished
    | Failed
    | SlotIdle
    | DeadlinePassed
    | Resumed
)

# --- what was decided ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Prune:
    """The fold run on the probe fold is stopped: others did better by this epoch."""

    config_id: str
    fold: int
    epoch: int
    why: str


@dataclass(frozen=True)
class Promote:
    """The configuration earned its remaining folds."""

    config_id: str
    why: str


@dataclass(frozen=True)
class Complete:
    """All folds of the configuration are finished: it is a member."""

    config_id: str


@dataclass(frozen=True)
class Retry:
    """The fold run is queued again."""

    config_id: str
    fold: int
    why: str


@dataclass(frozen=True)
class GiveUp:
    """The configuration is out: one of its fold runs failed for good."""

    config_id: str
    fold: int
    why: str


@dataclass(frozen=True)
class Stop:
    """A fold run is stopped for a reason that is not its score."""

    config_id: str
    fold: int
    why: str


Decision = Prune | Promote | Complete | Retry | GiveUp | Stop

_TYPES = {
    kind.__name__: kind
    for kind in (
        Proposed,
        SpaceExhausted,
        Started,
        Reported,
        Finished,
        Failed,
        SlotIdle,
        DeadlinePassed,
        Resumed,
        Prune,
        Promote,
        Complete,
        Retry,
        GiveUp,
        Stop,
    )
}


def to_json(value: Event | Decision) -> dict[str, Any]:
    return {"type": type(value).__name__, **asdict(value)}


def from_json(values: Mapping[str, Any]) -> Any:
    """The event or decision again. ValueError for a type this version does not know."""
    fields = dict(values)
    name = fields.pop("type", None)
    if name not in _TYPES:
        raise ValueError(f"journal holds '{name}', which this version of foldblend does not know")
    return _TYPES[name](**fields)
