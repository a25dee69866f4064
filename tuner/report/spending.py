"""Where the time went: fold-epochs and seconds by backbone and by what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner import events as ev
from tuner.journal import Record
from tuner.race import PROBE_FOLD, Race, Status
from tuner.replayed import spent_seconds

MEMBER, RUNNER_UP, PRUNED = "member", "not promoted", "pruned"
STOPPED, FAILED, UNFINISHED, REPEATED = "stopped", "failed", "unfinished", "repeated"
OUTCOMES: Mapping[str, str] = {
    MEMBER: "became a member",
    RUNNER_UP: "finished its probe fold, not promoted",
    PRUNED: "pruned on the probe fold",
    STOPPED: "stopped",
    FAILED: "configuration failed",
    UNFINISHED: "not finished yet",
    REPEATED: "done again after a kill",
}


@dataclass(frozen=True)
class Cell:
    """What one backbone spent on one outcome. `seconds`: of training, summed over fold runs."""

    backbone: str
    outcome: str
    fold_epochs: int
    seconds: float


@dataclass(frozen=True)
class Spending:
    """`wall_seconds`: while the search ran, pauses left out. `most_at_once`: fold runs side by
    side. `resumed`: how often the search was started again. `spared`: fold-epochs that pruned fold
    runs would have taken."""

    cells: tuple[Cell, ...]
    wall_seconds: float
    most_at_once: int
    resumed: int
    spared: int

    @property
    def fold_epochs(self) -> int:
        return sum(cell.fold_epochs for cell in self.cells)

    @property
    def seconds(self) -> float:
        return sum(cell.seconds for cell in self.cells)

    def of(self, *, backbone: str | None = None, outcome: str | None = None) -> tuple[Cell, ...]:
        return tuple(
            cell
            for cell in self.cells
            if backbone in (None, cell.backbone) and outcome in (None, cell.outcome)
        )

    @property
    def backbones(self) -> tuple[str, ...]:
        """The most expensive first."""
        names = {cell.backbone for cell in self.cells}
        return tuple(sorted(names, key=lambda name: (-_seconds(self.of(backbone=name)), name)))


def spending_of(records: Sequence[Record], race: Race) -> Spending:
    outcomes = {one: outcome_of(race, one) for one in race.entrants}
    sums: dict[tuple[str, str], tuple[int, float]] = {}
    reached: dict[tuple[str, int], int] = {}
    for record in records:
        event = record.event
        if not isinstance(event, ev.Reported | ev.Finished):
            continue
        key = (event.config_id, event.fold)
        again = event.epoch <= reached.get(key, 0)
        reached[key] = max(event.epoch, reached.get(key, 0))
        outcome = REPEATED if again else outcomes[event.config_id]
        cell = (race.entrants[event.config_id].backbone, outcome)
        epochs, seconds = sums.get(cell, (0, 0.0))
        sums[cell] = (epochs + 1, seconds + float(event.metrics.get("seconds", 0.0)))
    return Spending(
        cells=tuple(Cell(*key, *spent) for key, spent in sorted(sums.items())),
        wall_seconds=spent_seconds(records),
        most_at_once=_most_at_once(records),
        resumed=sum(isinstance(record.event, ev.Resumed) for record in records),
        spared=_spared(race),
    )


def outcome_of(race: Race, config_id: str) -> str:
    """One word of OUTCOMES for a configuration."""
    entrant, probe = race.entrants[config_id], race.runs[config_id, PROBE_FOLD]
    if entrant.failed:
        return FAILED
    if config_id in race.members:
        return MEMBER
    if probe.status is Status.FINISHED and not entrant.promoted:
        return RUNNER_UP
    return {Status.PRUNED: PRUNED, Status.STOPPED: STOPPED}.get(probe.status, UNFINISHED)


def _spared(race: Race) -> int:
    return sum(
        max(0, race.entrants[run.config_id].epochs - run.epoch)
        for run in race.runs.values()
        if run.status is Status.PRUNED
    )


def _most_at_once(records: Sequence[Record]) -> int:
    running: set[tuple[str, int]] = set()
    most = 0
    for record in records:
        event = record.event
        if isinstance(event, ev.Started):
            running.add((event.config_id, event.fold))
        elif isinstance(event, ev.Finished | ev.Failed):
            running.discard((event.config_id, event.fold))
        elif isinstance(event, ev.Resumed):
            running.clear()
        for decision in record.decisions:
            if isinstance(decision, ev.Prune | ev.Stop):
                running.discard((decision.config_id, decision.fold))
        most = max(most, len(running))
    return most


def _seconds(cells: Sequence[Cell]) -> float:
    return sum(cell.seconds for cell in cells)
