"""The race: a state machine that decides which fold run starts, goes on, stops or is promoted.

Events in (`events.py`), decisions out; no Ray, no clock, no files. The same events in the same
order always give the same state, so the journal of events is all that resuming needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tuner import events as ev
from tuner.promotion import Candidate, PromotionRule, Standing, by_rank
from tuner.pruning import PruningRule, judge
from tuner.work import AskPromotion, Done, Propose, StartFold, Wait, Work

PROBE_FOLD = 0

# How often a fold run may lose its node. More is no bad luck: it brings its nodes down.
MAX_LOSSES = 20


class Status(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    PRUNED = "pruned"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class FoldRun:
    """Where a fold run stands. `values`: the metric after each epoch, first epoch first. `losses`:
    how often the node under it went away, which is no failure of its own. `node`: where the last
    epoch ran, "" where nobody told."""

    config_id: str
    fold: int
    status: Status = Status.WAITING
    epoch: int = 0
    failures: int = 0
    losses: int = 0
    values: tuple[float, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    node: str = ""
    why: str = ""

    @property
    def is_over(self) -> bool:
        return self.status not in (Status.WAITING, Status.RUNNING)


@dataclass(frozen=True)
class Entrant:
    """A configuration in the race."""

    config_id: str
    number: int
    backbone: str
    epochs: int
    promoted: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Rules:
    """What does not change during a race. `higher_is_better` and `metric` say how to read scores;
    `max_epochs` is the most a configuration of the space can take; `members` how many to promote;
    the budgets are None where unbounded."""

    metric: str
    higher_is_better: bool
    n_folds: int
    max_epochs: int
    pruning: PruningRule
    members: int
    configurations: int | None = None
    fold_epochs: int | None = None
    max_failures: int = 2
    promote: PromotionRule = by_rank

    def loss(self, value: float) -> float:
        return -value if self.higher_is_better else value


class Race:
    """The state, changed by `apply` alone."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.entrants: dict[str, Entrant] = {}
        self.runs: dict[tuple[str, int], FoldRun] = {}
        self._space_exhausted = False
        self._deadline_passed = False
        self._queue: list[tuple[str, int]] = []
        self._rungs: dict[int, list[tuple[str, float]]] = {}

    # --- questions ------------------------------------------------------------------------------

    @property
    def exploring(self) -> bool:
        """Whether anything but the budget forbids new configurations."""
        return not (self._space_exhausted or self._deadline_passed)

    @property
    def in_flight(self) -> int:
        return sum(run.status is Status.RUNNING for run in self.runs.values())

    @property
    def fold_epochs_spent(self) -> int:
        return sum(run.epoch for run in self.runs.values())

    @property
    def members(self) -> list[str]:
        """Configurations whose folds are all finished, in order of proposal."""
        return [
            config_id
            for config_id in self.entrants
            if all(
                (run := self.runs.get((config_id, fold))) and run.status is Status.FINISHED
                for fold in range(self.rules.n_folds)
            )
        ]

    def next_work(self, slots: int) -> Work:
        """What one of `slots` slots should do now. Asking changes nothing."""
        if self.in_flight >= slots:
            return Wait()
        if self._queue:
            return StartFold(*self._queue[0])
        if self.may_propose():
            return Propose()
        if self._promotions(idle=1):
            return AskPromotion()
        return Wait() if self.in_flight else Done()

    def may_propose(self) -> bool:
        """Whether the budget still carries a new configuration and the folds of the members."""
        rules = self.rules
        if not self.exploring:
            return False
        if rules.configurations is not None and len(self.entrants) >= rules.configurations:
            return False
        if rules.fold_epochs is None:
            return True
        reserve = max(0, self._affordable_members() - len(self._promoted())) * self._rest_cost()
        return self._committed() + rules.max_epochs + reserve <= rules.fold_epochs

    def is_hopeless(self, tries: int) -> bool:
        """Whether `tries` configurations have failed and no fold run has ended a single epoch."""
        failed = sum(entrant.failed for entrant in self.entrants.values())
        return failed >= tries and not self.fold_epochs_spent

    def is_promoted(self, config_id: str) -> bool:
        return self.entrants[config_id].promoted

    # --- events ---------------------------------------------------------------------------------

    def apply(self, event: ev.Event) -> list[ev.Decision]:
        """Take in what happened; returns what follows from it. An event that was applied before
        (a fold run that repeats itself after a kill) changes nothing."""
        match event:
            case ev.Proposed():
                return self._proposed(event)
            case ev.Started():
                return self._started(event)
            case ev.Reported():
                return self._reported(event)
            case ev.Finished():
                return self._finished(event)
            case ev.Failed():
                return self._failed(event)
            case ev.SlotIdle():
                return self._promote(idle=1)
            case ev.SpaceExhausted():
                self._space_exhausted = True
                return []
            case ev.DeadlinePassed():
                return self._deadline()
            case ev.Resumed():
                return self._resumed()

    def _proposed(self, event: ev.Proposed) -> list[ev.Decision]:
        if event.config_id in self.entrants:
            raise ValueError(f"configuration {event.config_id} was proposed before")
        self.entrants[event.config_id] = Entrant(
            event.config_id, event.number, event.backbone, event.epochs
        )
        self._enqueue(event.config_id, PROBE_FOLD)
        return []

    def _started(self, event: ev.Started) -> list[ev.Decision]:
        key = (event.config_id, event.fold)
        self._queue.remove(key)
        self.runs[key] = replace(self.runs[key], status=Status.RUNNING)
        return []

    def _reported(self, event: ev.Reported) -> list[ev.Decision]:
        run = self.runs[event.config_id, event.fold]
        if run.is_over:
            return []
        if event.epoch > run.epoch:
            self._record(run, event)
            if verdict := self._asha(event):
                return verdict
        return self._hopeless(event.config_id, event.fold)

    def _finished(self, event: ev.Finished) -> list[ev.Decision]:
        run = self.runs[event.config_id, event.fold]
        if run.is_over:
            return []
        self._record(run, event)
        self._end(event.config_id, event.fold, Status.FINISHED, "finished")
        decisions: list[ev.Decision] = []
        if event.config_id in self.members:
            decisions.append(ev.Complete(event.config_id))
        return decisions + self._promote()

    def _failed(self, event: ev.Failed) -> list[ev.Decision]:
        key = (event.config_id, event.fold)
        run = self.runs[key]
        if run.is_over:
            return []
        if event.node_lost and run.losses < MAX_LOSSES:
            return self._queue_again(replace(run, losses=run.losses + 1), event.error)
        run = replace(run, failures=run.failures + 1, why=event.error)
        if event.retry and run.failures <= self.rules.max_failures:
            return self._queue_again(run, f"try {run.failures + 1}: {event.error}")
        self.runs[key] = run
        self._end(*key, Status.FAILED, event.error)
        self._drop_rest(event.config_id, f"fold {event.fold} failed")
        give_up = ev.GiveUp(*key, why=event.error)
        return [give_up, *self._promote()]

    def _queue_again(self, run: FoldRun, why: str) -> list[ev.Decision]:
        """Ahead of everything: it goes on from its last epoch, which others wait for."""
        key = run.config_id, run.fold
        self.runs[key] = replace(run, status=Status.WAITING)
        self._queue.insert(0, key)
        return [ev.Retry(*key, why=why)]

    def _deadline(self) -> list[ev.Decision]:
        self._deadline_passed = True
        # An ensemble needs a member: where nobody is promoted yet, the best one is.
        return [] if self._promoted() else self._promote(idle=1)

    def _resumed(self) -> list[ev.Decision]:
        interrupted = [key for key, run in self.runs.items() if run.status is Status.RUNNING]
        for key in interrupted:
            self.runs[key] = replace(self.runs[key], status=Status.WAITING)
        self._queue[:0] = interrupted
        return []

    # --- pruning and promotion ------------------------------------------------------------------

    def _asha(self, event: ev.Reported) -> list[ev.Decision]:
        rule, entrant = self.rules.pruning, self.entrants[event.config_id]
        if event.fold != PROBE_FOLD or not rule.is_rung(event.epoch, entrant.epochs):
            return []
        across = rule.across_backbones(event.epoch, entrant.epochs)
        reached = self._rungs.setdefault(event.epoch, [])
        peers = [loss for kind, loss in reached if across or kind == entrant.backbone]
        loss = self.rules.loss(event.metrics[self.rules.metric])
        reached.append((entrant.backbone, loss))
        verdict = judge(loss, peers, rule.reduction_factor)
        if not verdict.stop:
            return []
        peers_are = "" if across else " of its kind"
        why = (
            f"epoch {event.epoch}: rank {verdict.rank} of {verdict.peers}{peers_are}, "
            f"{verdict.kept} go on"
        )
        self._end(event.config_id, event.fold, Status.PRUNED, why)
        return [ev.Prune(event.config_id, event.fold, event.epoch, why), *self._promote()]

    def _hopeless(self, config_id: str, fold: int) -> list[ev.Decision]:
        """Stop a run whose result nobody needs any more."""
        entrant = self.entrants[config_id]
        if entrant.failed:
            why = "another fold of this configuration failed"
        elif self._deadline_passed and not entrant.promoted and self._promoted():
            why = "the hours of the budget are over"
        else:
            return []
        self._end(config_id, fold, Status.STOPPED, why)
        return [ev.Stop(config_id, fold, why)]

    def _promote(self, idle: int = 0) -> list[ev.Decision]:
        decisions: list[ev.Decision] = []
        for promotion in self._promotions(idle):
            entrant = self.entrants[promotion.config_id]
            self.entrants[promotion.config_id] = replace(entrant, promoted=True)
            for fold in range(self.rules.n_folds):
                if fold != PROBE_FOLD:
                    self._enqueue(promotion.config_id, fold)
            decisions.append(ev.Promote(promotion.config_id, promotion.why))
        return decisions

    def _promotions(self, idle: int = 0) -> list:
        if self._deadline_passed and self._promoted():
            return []
        standing = Standing(
            waiting=self._finished_on_probe(promoted=False),
            promoted=self._promoted(),
            ended=sum(run.is_over for (_, fold), run in self.runs.items() if fold == PROBE_FOLD),
            expected=self._expected(),
            members=self.rules.members,
            idle=idle,
        )
        return self._within_budget(self.rules.promote(standing))

    def _within_budget(self, promotions: list) -> list:
        if self.rules.fold_epochs is None:
            return promotions
        free = self.rules.fold_epochs - self._committed()
        return promotions[: max(0, free // max(1, self._rest_cost()))]

    def _finished_on_probe(self, *, promoted: bool) -> list[Candidate]:
        return [
            Candidate(one.config_id, self._probe_loss(one.config_id), one.backbone)
            for one in self.entrants.values()
            if one.promoted is promoted
            and not one.failed
            and self.runs[one.config_id, PROBE_FOLD].status is Status.FINISHED
        ]

    def _promoted(self) -> list[Candidate]:
        return self._finished_on_probe(promoted=True)

    def _probe_loss(self, config_id: str) -> float:
        metrics = self.runs[config_id, PROBE_FOLD].metrics
        return self.rules.loss(metrics[self.rules.metric])

    def _expected(self) -> int | None:
        """How many configurations there will be in all, None where nobody can know."""
        if not self.exploring:
            return len(self.entrants)
        rules = self.rules
        bounds = [] if rules.configurations is None else [rules.configurations]
        if rules.fold_epochs is not None:
            explore = rules.fold_epochs - self._affordable_members() * self._rest_cost()
            bounds.append(max(explore // rules.max_epochs, len(self.entrants)))
        return min(bounds) if bounds else None

    # --- the budget -----------------------------------------------------------------------------

    def _committed(self) -> int:
        """Fold-epochs spent, and those that what is queued or running may still take."""
        return sum(
            run.epoch if run.is_over else self.entrants[config_id].epochs
            for (config_id, _), run in self.runs.items()
        )

    def _rest_cost(self) -> int:
        """Fold-epochs that a promotion costs."""
        return (self.rules.n_folds - 1) * self.rules.max_epochs

    def _affordable_members(self) -> int:
        if self.rules.fold_epochs is None:
            return self.rules.members
        whole = self.rules.n_folds * self.rules.max_epochs
        return max(1, min(self.rules.members, self.rules.fold_epochs // whole))

    # --- bookkeeping ----------------------------------------------------------------------------

    def _enqueue(self, config_id: str, fold: int) -> None:
        self.runs[config_id, fold] = FoldRun(config_id, fold)
        self._queue.append((config_id, fold))

    def _record(self, run: FoldRun, event: ev.Reported | ev.Finished) -> None:
        self.runs[run.config_id, run.fold] = replace(
            run,
            epoch=event.epoch,
            values=(*run.values, event.metrics[self.rules.metric]),
            metrics=dict(event.metrics),
            seconds=run.seconds + event.metrics.get("seconds", 0.0),
            node=event.node,
        )

    def _end(self, config_id: str, fold: int, status: Status, why: str) -> None:
        self.runs[config_id, fold] = replace(self.runs[config_id, fold], status=status, why=why)

    def _drop_rest(self, config_id: str, why: str) -> None:
        self.entrants[config_id] = replace(self.entrants[config_id], failed=True)
        for key in [key for key in self._queue if key[0] == config_id]:
            self._queue.remove(key)
            self._end(*key, Status.STOPPED, why)
