"""What a person sees while it runs: a live table on a terminal, silence elsewhere.

Whatever the screen shows, `search.log` gets every decision as a line with its time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from textwrap import indent

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ensemble.files import Location
from ensemble.metrics import METRICS
from tuner import events as ev
from tuner.journal import Record
from tuner.race import Race
from tuner.slots import Slots
from tuner.view import race_view

# Drawing takes longer than a report: no more often than a person can read.
REFRESH_SECONDS = 0.25
# Decisions shown below the table, newest last.
LATEST = 4


class LiveTable:
    """A listener that draws the race. Use as a context; does nothing off a terminal."""

    def __init__(self, console: Console, slots: Slots) -> None:
        self._console, self._slots = console, slots
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._started = time.monotonic()
        self._drawn = 0.0
        self._latest: deque[str] = deque(maxlen=LATEST)

    def __enter__(self) -> LiveTable:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def __call__(self, record: Record, race: Race) -> None:
        now = time.monotonic()
        self._latest += [describe_decision(one) for one in record.decisions]
        if not self._live.is_started or now - self._drawn < REFRESH_SECONDS:
            return
        self._drawn = now
        view = race_view(race, slots=self._slots.count, elapsed=now - self._started)
        latest = [Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in self._latest]
        self._live.update(Group(view, *latest), refresh=True)


class DecisionLog:
    """A listener that writes decisions and failures as lines a person reads."""

    def __init__(self, location: Location, since: float = 0.0) -> None:
        """Records older than `since` (seconds since the epoch) an earlier process has logged."""
        self._location, self._since = location, since

    def __call__(self, record: Record, race: Race) -> None:
        if not self._location.is_local or record.time < self._since:
            return
        if lines := described(record):
            with self._location.local_path.open("a", encoding="utf-8") as file:
                file.writelines(f"{stamp(record)} {line}\n" for line in lines)
                file.write(_traceback(record.event))


def _traceback(event: ev.Event) -> str:
    """Where a fold run failed, indented; the tables have its last line alone."""
    return indent(event.traceback, "    ") if isinstance(event, ev.Failed) else ""


def stamp(record: Record) -> str:
    """Local time of a record."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.time))


def described(record: Record) -> list[str]:
    """A record in words: the event where it matters alone, then each decision."""
    event = describe_event(record.event)
    return ([event] if event else []) + [describe_decision(one) for one in record.decisions]


def describe_event(event: ev.Event) -> str | None:
    """None for what happens at every epoch and only counts by what is decided then."""
    match event:
        case ev.Proposed():
            return f"{event.config_id} proposed: {event.backbone} {dict(event.params)}"
        case ev.Finished():
            return f"{event.config_id} fold {event.fold} finished: {_scores(event.metrics)}"
        case ev.Failed():
            return f"{event.config_id} fold {event.fold} failed: {event.error}"
        case ev.SpaceExhausted():
            return "the search space holds no other configuration"
        case ev.DeadlinePassed():
            return "the hours of the budget are over"
        case ev.Resumed():
            return "the search goes on from its journal"
        case _:
            return None


def describe_decision(decision: ev.Decision) -> str:
    word = _WORDS[type(decision)]
    match decision:
        case ev.Complete():
            return f"{decision.config_id} {word}"
        case ev.Promote():
            return f"{decision.config_id} {word}: {decision.why}"
        case _:
            return f"{decision.config_id} fold {decision.fold} {word}: {decision.why}"


def _scores(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in METRICS if name in metrics)


_WORDS: dict[type, str] = {
    ev.Prune: "pruned",
    ev.Promote: "promoted",
    ev.Complete: "is a member",
    ev.Retry: "queued again",
    ev.GiveUp: "given up",
    ev.Stop: "stopped",
}


@contextmanager
def steps(console: Console) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Progress bars for named steps of known length; nothing off a terminal."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )

    def step(name: str) -> Callable[[int, int], None]:
        task = progress.add_task(name, total=None)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return update

    with progress:
        yield step


@contextmanager
def saying(console: Console) -> Iterator[Callable[[str], None]]:
    """One line that says what is being done; nothing off a terminal."""
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield lambda text: status.update(Text(text))
