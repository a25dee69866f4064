"""Progress for a log that nobody draws on: one plain line now and then, the last one the latest.

A search that was submitted to a cluster writes it to its job's log, where `foldblend jobs`, the
Ray dashboard and `tail` find it:

    14:03:05  12/40 configurations · 31 fold runs · 210/400 fold-epochs · 5 pruned · 2/4 members ·
    best 0.4120 · blend 0.3910 · 3/4 slots · 420 images/s · 12 min 05 s left

(one line; what is not known is left out). The time is that of the machine the search runs on.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

from rich.console import Console

from tuner import events as ev
from tuner.errors import UserError
from tuner.journal import Record
from tuner.race import Race
from tuner.slots import Slots
from tuner.standings import totals
from tuner.tally import tally
from tuner.view import duration, number

# Set to "lines" in a job's environment; unset or empty, a pipe stays silent.
VARIABLE = "FOLDBLEND_PROGRESS"

EVERY_SECONDS = 30.0
# What a person who looks in now and then wants to see at once.
_MATTERS = (ev.Promote, ev.Complete, ev.GiveUp)

_LINE = re.compile(r"\d\d:\d\d:\d\d  \d+(/\d+)? configurations · .*")


class ProgressLine:
    """A listener that prints the line at every decision that matters, else every 30 s at most, and
    at the end where it says more by then. Use as a context; `blend` gives the blended score so
    far, or None."""

    def __init__(
        self,
        console: Console,
        slots: Slots,
        *,
        since: float,
        blend: Callable[[], float | None] = lambda: None,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        """Records older than `since` (seconds since the epoch) an earlier process has told of."""
        self._console, self._slots, self._blend = console, slots, blend
        self._since, self._every = since, every_seconds
        self._told, self._line = float("-inf"), ""
        self._latest: tuple[float, Race] | None = None

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._latest is not None:
            self._tell(*self._latest)

    def __call__(self, record: Record, race: Race) -> None:
        if record.time < self._since:
            return
        self._latest = record.time, race
        matters = any(isinstance(one, _MATTERS) for one in record.decisions)
        if matters or record.time - self._told >= self._every:
            self._tell(record.time, race)

    def _tell(self, seconds: float, race: Race) -> None:
        self._told = seconds
        line = progress_line(race, slots=self._slots.count, seconds=seconds, blend=self._blend())
        if line != self._line:
            self._line = line
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def wants_lines() -> bool:
    """Whether the environment asks for progress lines. UserError for a value that means nothing."""
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "lines"):
        raise UserError(f"{VARIABLE}={value}: expected lines (a line now and then), or nothing")
    return value == "lines"


def progress_line(race: Race, *, slots: int, seconds: float, blend: float | None = None) -> str:
    """The race at `seconds` since the epoch. `blend`: the blended score so far."""
    sums, counts = totals(race, slots), tally(race)
    parts = [
        _of(sums.configurations, sums.configurations_planned, "configurations"),
        f"{counts.total('fold_runs')} fold runs",
        _of(sums.fold_epochs, sums.fold_epochs_planned, "fold-epochs"),
        f"{counts.total('pruned')} pruned",
        _of(sums.members, sums.members_wanted, "members"),
    ]
    if counts.failures:
        parts.append(f"{counts.failures} failures")
    if counts.best is not None:
        parts.append(f"best {number(counts.best)}")
    if blend is not None:
        parts.append(f"blend {number(blend)}")
    parts.append(f"{sums.running}/{slots} slots")
    if rate := counts.total("images_per_second"):
        parts.append(f"{rate:.0f} images/s")
    if counts.gpu_memory_bytes is not None:
        parts.append(f"{counts.gpu_memory_bytes / 2**30:.1f} GiB GPU memory")
    if sums.running and sums.seconds_left is not None:
        parts.append(f"{duration(sums.seconds_left)} left")
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}  {' · '.join(parts)}"


def last_progress(log: str) -> str | None:
    """The last progress line in a job's log; None where there is none."""
    lines = (line.rstrip() for line in reversed(log.splitlines()))
    return next((line for line in lines if _LINE.fullmatch(line)), None)


def parse_progress(line: str) -> dict[str, str]:
    """The parts of a progress line by name, as {"time": "14:03:05", "pruned": "5", "best":
    "0.4120"}. ValueError for any other line."""
    if not _LINE.fullmatch(line):
        raise ValueError(f"expected a progress line, got {line!r}")
    clock, _, rest = line.partition("  ")
    found = {"time": clock}
    for part in rest.split(" · "):
        if match := re.fullmatch(r"(best|blend) (\S+)|(.+) (left)|(\S+) (.+)", part):
            one = match.groups()
            name, value = (one[0], one[1]) if one[0] else (one[3], one[2])
            found[name or one[5]] = value or one[4]
    return found


def _of(done: int, planned: int | None, name: str) -> str:
    return f"{done}/{planned} {name}" if planned is not None else f"{done} {name}"
