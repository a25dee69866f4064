"""Whole searches without training: real spaces, proposals and journals, curves for epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensemble.files import Location
from search_spaces.space import Study, load_study
from tests.tuner.simulation import loss_of
from trainables.task import EpochResult, FoldTask
from tuner import events as ev
from tuner.conductor import Conductor, Discard, Listener
from tuner.journal import Journal, Record
from tuner.local import run_in_process
from tuner.prepare import max_epochs
from tuner.proposals import Proposals, Told
from tuner.rules import rules_of
from tuner.slots import Slots

SMALL = (
    *("experiment=scratch", "data=csv", "data.path=train.csv", "data.images=train", "folds.k=3"),
    *("backbone=choice(test_resnet,test_efficientnet)", "augment=none", "train.epochs=4"),
    *("search.pruning.min_epochs=1", "search.budget.configurations=7"),
    *("search.promotion.members=2", "search.sampler.startup=2"),
)


def small_study(*more: str) -> Study:
    return load_study([*SMALL, *more])


def epochs_of(task: FoldTask) -> Iterator[EpochResult]:
    """What training would yield: the epochs that were not reported, on a curve of its own."""
    epochs = task.configuration.train.epochs
    for epoch in range(task.reported_epochs + 1, epochs + 1):
        metrics = {"log_loss": loss_of(task.config_id, task.fold, epoch), "seconds": 1.0}
        yield EpochResult(epoch, metrics, done=epoch == epochs)


@dataclass
class Clock:
    """Seconds since the epoch, one more at every look."""

    now: float = 1000.0
    step: float = 1.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@dataclass
class Search:
    """One run directory; `begin` is a process that searches in it."""

    folder: Path
    study: Study
    seed: int = 0
    slots: int = 1
    clock: Callable[[], float] = field(default_factory=Clock)
    tasks: list[FoldTask] = field(default_factory=list)

    @property
    def journal(self) -> Journal:
        return Journal(Location.of(self.folder / "journal"))

    @property
    def records(self) -> list[Record]:
        return self.journal.read()

    def proposals(self) -> Proposals:
        config = self.study.run.search
        return Proposals(
            self.study.space,
            config.sampler,
            metric=config.metric,
            maximise=config.metric != "log_loss",
            seed=self.seed,
        )

    def begin(
        self,
        *,
        journal: Any = None,
        deadline: float | None = None,
        listeners: Sequence[Listener] = (),
        discard: Discard = lambda config_id, fold: None,
    ) -> Conductor:
        """A conductor that stands where the journal ends."""
        conductor = Conductor(
            run=str(self.folder),
            rules=rules_of(self.study.run, max_epochs(self.study.space)),
            proposals=self.proposals(),
            journal=journal or self.journal,
            slots=Slots(self.slots),
            threads=1,
            clock=self.clock,
            deadline=deadline,
            listeners=listeners,
            discard=discard,
        )
        conductor.replay(self.records)
        return conductor

    def run(self, conductor: Conductor | None = None, run_fold: Any = epochs_of) -> Conductor:
        conductor = conductor or self.begin()

        def noted(task: FoldTask) -> Iterator[EpochResult]:
            self.tasks.append(task)
            return run_fold(task)

        run_in_process(conductor, noted)
        return conductor

    def cut(self, folder: Path, count: int) -> Search:
        """A run directory as a kill after `count` records would have left it."""
        other = Search(folder, self.study, self.seed, self.slots)
        for record in self.records[:count]:
            other.journal.append(record)
        return other


def outcome(conductor: Conductor) -> tuple[Any, ...]:
    """What must not depend on interruptions."""
    race = conductor.race
    return race.members, race.entrants, race.runs


def told(search: Search) -> Mapping[str, Told]:
    """What Optuna was told, from the journal alone."""
    proposals = search.proposals()
    for record in search.records:
        proposals.take_in(record.event, list(record.decisions))
    return proposals.told


def events_of(records: Sequence[Record], kind: type[ev.Event]) -> list[Any]:
    return [record.event for record in records if isinstance(record.event, kind)]


def assert_nothing_twice(records: list[Record]) -> None:
    """No fold run is finished and no epoch reported a second time."""
    finished: set[tuple[str, int]] = set()
    epochs: set[tuple[str, int, int]] = set()
    for event in (record.event for record in records):
        if isinstance(event, ev.Started | ev.Reported | ev.Finished):
            assert (event.config_id, event.fold) not in finished, event
        if isinstance(event, ev.Reported | ev.Finished):
            epoch = (event.config_id, event.fold, event.epoch)
            assert epoch not in epochs, event
            epochs.add(epoch)
        if isinstance(event, ev.Finished):
            finished.add((event.config_id, event.fold))
