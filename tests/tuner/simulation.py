"""A make-believe world for the race: fold runs are curves, not training."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tuner import events as ev
from tuner.promotion import by_rank
from tuner.pruning import PruningRule
from tuner.race import Race, Rules
from tuner.work import AskPromotion, Done, Propose, StartFold

BACKBONES = ("alpha", "beta", "gamma")


def rules(**changes: object) -> Rules:
    values: dict = {
        "metric": "log_loss",
        "higher_is_better": False,
        "n_folds": 3,
        "max_epochs": 4,
        "pruning": PruningRule(True, 1, 2.0, 1.0),
        "members": 3,
        "configurations": 9,
        "fold_epochs": None,
        "max_failures": 2,
        "promote": by_rank,
    }
    return Rules(**(values | changes))


def loss_of(config_id: str, fold: int, epoch: int) -> float:
    """A learning curve of its own for every configuration, the same at every call."""
    draw = random.Random(f"{config_id}/{fold}")
    return draw.uniform(0.2, 1.0) + math.exp(-epoch * draw.uniform(0.3, 1.5))


@dataclass
class World:
    """Drives a race with `slots` workers in turn; `events` is the journal it would leave."""

    race: Race
    slots: int = 1
    events: list[ev.Event] = field(default_factory=list)
    decisions: list[ev.Decision] = field(default_factory=list)
    started: list[tuple[str, int]] = field(default_factory=list)
    fail: dict[tuple[str, int], int] = field(default_factory=dict)
    max_in_flight: int = 0

    def apply(self, event: ev.Event) -> list[ev.Decision]:
        decisions = self.race.apply(event)
        self.events.append(event)
        self.decisions += decisions
        return decisions

    def run(self, max_steps: int = 100_000) -> World:
        for _ in self.steps():
            max_steps -= 1
            assert max_steps > 0, "the race does not end"
        return self

    def steps(self) -> Iterator[None]:
        """One epoch of one fold run at a time."""
        running: list[tuple[str, int]] = []
        while True:
            self._fill(running)
            self.max_in_flight = max(self.max_in_flight, self.race.in_flight)
            if not running:
                return
            for key in list(running):
                if self._epoch(*key):
                    running.remove(key)
                yield

    def _fill(self, running: list[tuple[str, int]]) -> None:
        while True:
            match self.race.next_work(self.slots):
                case Propose():
                    self._propose()
                case AskPromotion():
                    self.apply(ev.SlotIdle())
                case StartFold() as work:
                    self.apply(ev.Started(work.config_id, work.fold))
                    self.started.append((work.config_id, work.fold))
                    running.append((work.config_id, work.fold))
                case Done():
                    return
                case _:
                    return

    def _propose(self) -> None:
        number = len(self.race.entrants)
        backbone = BACKBONES[number % len(BACKBONES)]
        self.apply(ev.Proposed(f"c{number}", number, backbone, self.race.rules.max_epochs))

    def _epoch(self, config_id: str, fold: int) -> bool:
        run = self.race.runs[config_id, fold]
        if self.fail.get((config_id, fold), 0) > run.failures:
            self.apply(ev.Failed(config_id, fold, "out of luck"))
            return True
        epoch = run.epoch + 1
        metrics = {"log_loss": loss_of(config_id, fold, epoch), "seconds": 1.0}
        last = epoch == self.race.entrants[config_id].epochs
        kind = ev.Finished if last else ev.Reported
        self.apply(kind(config_id, fold, epoch, metrics))
        return self.race.runs[config_id, fold].is_over


def snapshot(race: Race) -> tuple:
    """Everything a race knows, for comparing two of them."""
    return race.entrants, race.runs, race._queue, race._rungs
