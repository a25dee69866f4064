"""Learning curves, and what was decided along them, from the journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tuner import events as ev
from tuner.journal import Record
from tuner.race import PROBE_FOLD, Race, Status

PROMOTED = "promoted"
RETRIED = "retried"


@dataclass(frozen=True)
class Happening:
    """Something on a curve. `word`: promoted, retried, or how the fold run ended (pruned, stopped,
    failed, finished). `epoch`: 0 before the first; `value` is None there."""

    word: str
    epoch: int
    value: float | None
    why: str


@dataclass(frozen=True)
class Curve:
    """One fold run. `epochs` ascend from 1, `values` are the metric after each; both are empty
    where it never finished one. `end`: finished, pruned, stopped, failed, running or waiting."""

    config_id: str
    backbone: str
    fold: int
    epochs: tuple[int, ...]
    values: tuple[float, ...]
    end: str
    member: bool
    happenings: tuple[Happening, ...]

    @property
    def is_probe(self) -> bool:
        return self.fold == PROBE_FOLD


@dataclass
class _Trace:
    points: dict[int, float] = field(default_factory=dict)
    happenings: list[Happening] = field(default_factory=list)

    def note(self, word: str, why: str) -> None:
        last = max(self.points, default=0)
        self.happenings.append(Happening(word, last, self.points.get(last), why))


def curves_of(records: Sequence[Record], race: Race) -> tuple[Curve, ...]:
    """One curve for every fold run that was begun, in the order in which they were."""
    traces: dict[tuple[str, int], _Trace] = {}
    for record in records:
        _follow(record.event, traces, race.rules.metric)
        for decision in record.decisions:
            if isinstance(decision, ev.Promote) and (decision.config_id, PROBE_FOLD) in traces:
                traces[decision.config_id, PROBE_FOLD].note(PROMOTED, decision.why)
            elif isinstance(decision, ev.Retry):
                traces[decision.config_id, decision.fold].note(RETRIED, decision.why)
    members = set(race.members)
    return tuple(_curve(key, trace, race, key[0] in members) for key, trace in traces.items())


def by_backbone(curves: Iterable[Curve]) -> Mapping[str, tuple[Curve, ...]]:
    """By name; within a backbone what must not be covered comes last: members, then promoted."""
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        found.setdefault(curve.backbone, []).append(curve)
    return {name: tuple(sorted(found[name], key=_depth)) for name in sorted(found)}


def is_promoted(curve: Curve) -> bool:
    return any(one.word == PROMOTED for one in curve.happenings)


def _follow(event: ev.Event, traces: dict[tuple[str, int], _Trace], metric: str) -> None:
    match event:
        case ev.Started():
            traces.setdefault((event.config_id, event.fold), _Trace())
        case ev.Reported() | ev.Finished():
            trace = traces.setdefault((event.config_id, event.fold), _Trace())
            # An epoch that a killed run repeats has been on the curve already.
            trace.points.setdefault(event.epoch, float(event.metrics[metric]))


def _curve(key: tuple[str, int], trace: _Trace, race: Race, member: bool) -> Curve:
    run = race.runs[key]
    ended = run.status not in (Status.RUNNING, Status.WAITING)
    if ended:
        trace.note(str(run.status), run.why)
    epochs = sorted(trace.points)
    return Curve(
        config_id=key[0],
        backbone=race.entrants[key[0]].backbone,
        fold=key[1],
        epochs=tuple(epochs),
        values=tuple(trace.points[epoch] for epoch in epochs),
        end=str(run.status),
        member=member,
        happenings=tuple(trace.happenings),
    )


def _depth(curve: Curve) -> tuple[bool, bool, bool]:
    return curve.member, is_promoted(curve), curve.is_probe
