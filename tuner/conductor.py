"""What every executor drives: the race, its journal and the sampler kept in step.

Ray's searcher and scheduler (`ray_edge.py`) and the in-process executor (`local.py`) are thin
shells around one `Conductor`. It is used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from search_spaces.config import Configuration
from trainables.failure import Failure, no_space_message
from trainables.task import EpochResult, FoldTask
from tuner import events as ev
from tuner.errors import UserError
from tuner.journal import Journal, Record
from tuner.proposals import Proposals
from tuner.race import Race, Rules
from tuner.slots import Slots
from tuner.work import AskPromotion, Done, Propose, StartFold, Wait

# So many configurations that cannot be built, and none that can: a search bounded by hours alone
# would go on proposing them until the hours are over.
HOPELESS = 10

Listener = Callable[[Record, Race], None]
Discard = Callable[[str, int], None]


class Conductor:
    """`clock` gives seconds since the epoch; `deadline` in the same seconds or None. `listeners`
    hear every record once it is safe in the journal. `discard` is called with (config_id, fold) of
    a fold run that ended before its last epoch: nobody goes on from its checkpoint."""

    def __init__(
        self,
        *,
        run: str,
        rules: Rules,
        proposals: Proposals,
        journal: Journal,
        slots: Slots,
        threads: int,
        clock: Callable[[], float],
        deadline: float | None = None,
        listeners: Sequence[Listener] = (),
        discard: Discard = lambda config_id, fold: None,
    ) -> None:
        self.race = Race(rules)
        self.fatal: Failure | None = None
        self.stopped = False
        self.slots = slots
        self._run, self._threads = run, threads
        self._proposals, self._journal = proposals, journal
        self._clock, self._deadline = clock, deadline
        self._listeners, self._discard = tuple(listeners), discard
        self._configurations: dict[str, Configuration] = {}
        self._sequence = 0
        self._journal_is_broken = False

    def replay(self, records: Sequence[Record]) -> None:
        """Take in what an earlier process recorded; what was running then is queued again.

        Raises UserError where the same events lead to other decisions than those recorded."""
        for record in records:
            decisions = self.race.apply(record.event)
            if _bare(decisions) != _bare(record.decisions):
                raise UserError(
                    f"{self._run}: the journal cannot be continued: at record {record.sequence} "
                    "this version of foldblend decides otherwise than the one that wrote it; go "
                    "on with that one (see run.yaml), or start a new run"
                )
            self._follow(record.event, decisions)
            self._sequence = record.sequence + 1
            for listener in self._listeners:
                listener(record, self.race)
        if records:
            self.record(ev.Resumed())

    def take(self) -> FoldTask | Wait | Done:
        """The next fold run for a free slot."""
        self._check_deadline()
        while not self.halted:
            match self.race.next_work(self.slots.count):
                case Propose():
                    self._propose()
                case AskPromotion():
                    self.record(ev.SlotIdle())
                case StartFold() as work:
                    self.record(ev.Started(work.config_id, work.fold))
                    if not self.halted:
                        return self._task(work)
                case Wait() | Done() as nothing:
                    return nothing
        return Done()

    def report(self, task: FoldTask, result: EpochResult) -> bool:
        """Take in an epoch; True when the fold run must stop now."""
        self._check_deadline()
        kind = ev.Finished if result.done else ev.Reported
        run = self.race.runs[task.config_id, task.fold]
        if not run.is_over and (result.done or result.epoch > run.epoch):
            metrics = dict(result.metrics)
            self.record(kind(task.config_id, task.fold, result.epoch, metrics, result.node))
        self._tidy(task)
        return self.is_over(task) or self.halted

    def is_over(self, task: FoldTask) -> bool:
        """Whether the race needs nothing more of this fold run."""
        return self.race.runs[task.config_id, task.fold].is_over

    def fail(self, task: FoldTask, failure: Failure) -> None:
        """Take in the end of a fold run by an error."""
        if failure.kind == "fatal":
            self.fatal = self.fatal or failure
            return
        if not self.is_over(task):
            self.record(
                ev.Failed(
                    task.config_id,
                    task.fold,
                    failure.message,
                    retry=failure.kind in ("crash", "lost"),
                    traceback=failure.traceback,
                    node_lost=failure.kind == "lost",
                )
            )
        self._tidy(task)
        if failure.kind == "refused" and self.race.is_hopeless(HOPELESS):
            self.fatal = self.fatal or replace(failure, kind="fatal")

    def _tidy(self, task: FoldTask) -> None:
        """Its worker has told its last and waits for what it is told: no checkpoint comes after."""
        if self.is_over(task):
            self._discard(task.config_id, task.fold)

    def stop(self) -> None:
        """Hand out nothing more (the user asked to stop)."""
        self.stopped = True

    @property
    def halted(self) -> bool:
        """Whether the search ends early: whatever runs is to end its epoch and no more."""
        return self.stopped or self.fatal is not None

    def record(self, event: ev.Event) -> None:
        """Decide, write down, and tell whoever listens."""
        if self._journal_is_broken:
            return
        decisions = self.race.apply(event)
        record = Record(self._sequence, self._clock(), event, tuple(decisions))
        try:
            self._append(record)
            self._follow(event, decisions)
            for listener in self._listeners:
                listener(record, self.race)
        except OSError as error:
            self.fatal = self.fatal or Failure("fatal", no_space_message(error))

    def _append(self, record: Record) -> None:
        try:
            self._journal.append(record)
        except OSError:
            # What cannot be written down did not happen. Nor may anything be written after it,
            # even if the disk has room again: the search stops, and resumes from the journal.
            self._journal_is_broken = True
            raise
        self._sequence += 1

    def _follow(self, event: ev.Event, decisions: list[ev.Decision]) -> None:
        self._proposals.take_in(event, decisions)
        match event:
            case ev.Proposed():
                configuration = Configuration.model_validate(event.configuration)
                self._configurations[event.config_id] = configuration
            case ev.DeadlinePassed():
                self._deadline = None

    def _propose(self) -> None:
        proposal = self._proposals.ask()
        if proposal is None:
            self.record(ev.SpaceExhausted())
            return
        configuration = proposal.configuration
        self.record(
            ev.Proposed(
                config_id=configuration.config_id,
                number=len(self.race.entrants),
                backbone=configuration.backbone.name,
                epochs=configuration.train.epochs,
                configuration=configuration.model_dump(mode="json"),
                params=proposal.params,
            )
        )

    def _task(self, work: StartFold) -> FoldTask:
        return FoldTask(
            run=self._run,
            config_id=work.config_id,
            configuration=self._configurations[work.config_id],
            fold=work.fold,
            reported_epochs=self.race.runs[work.config_id, work.fold].epoch,
            threads=self._threads,
        )

    def _check_deadline(self) -> None:
        if self._deadline is not None and self._clock() >= self._deadline:
            self.record(ev.DeadlinePassed())


def _bare(decisions: Sequence[ev.Decision]) -> list[ev.Decision]:
    """Decisions without their wording, which another version may choose differently."""
    return [one if isinstance(one, ev.Complete) else replace(one, why="") for one in decisions]
