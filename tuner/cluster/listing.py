"""`foldblend jobs`: what the cluster runs and has run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.cluster.connection import Connection
from tuner.cluster.errand import is_rays_line
from tuner.cluster.names import our_jobs, run_of
from tuner.errors import UserError
from tuner.progress_line import last_progress

if TYPE_CHECKING:
    from ray.job_submission import JobDetails
    from rich.text import Text

# A search prints its summary after its last line of progress.
LAST_LINES = 200
STYLES = {"running": "green", "failed": "red", "stopped": "yellow"}
STATE_WIDTH = len("succeeded")


@dataclass(frozen=True)
class Row:
    """A job as it is shown. `seconds`: it runs, or ran. `last`: how far it is."""

    job_id: str
    state: str
    started: float | None
    seconds: float | None
    run: str
    last: str


def rows(connection: Connection) -> list[Row]:
    """Our jobs, newest first."""
    return [row_of(connection, job) for job in reversed(our_jobs(connection.jobs()))]


def row_of(connection: Connection, job: JobDetails) -> Row:
    return made_row(job, last_line(connection, job), time.time())


def last_line(connection: Connection, job: JobDetails) -> str:
    """The line of a job's log that says most; "" where there is none."""
    if job.driver_node_id is None:
        return ""
    asked = {
        "node_id": job.driver_node_id,
        "filename": f"job-driver-{job.submission_id}.log",
        "lines": LAST_LINES,
    }
    try:
        text = connection.get("/api/v0/logs/file", asked).content.decode("utf-8", "replace")
    except UserError:  # its node is gone, or the file was removed: the rest of the row stands
        return ""
    return telling_line(text, failed=str(job.status.value) == "FAILED")


def telling_line(log: str, *, failed: bool) -> str:
    """How far the search came; where it failed, or has not come far, the last line instead."""
    said = [line.strip() for line in log.splitlines() if line.strip() and not is_rays_line(line)]
    progress = None if failed else last_progress("\n".join(said))
    return progress or (said[-1] if said else "")


def made_row(job: JobDetails, last: str, now: float) -> Row:
    """`last`: of its log; without one Ray's own message stands there, unless it only says that the
    job runs. `now`: seconds since the epoch."""
    state = str(job.status.value).lower()
    started = None if job.start_time is None else job.start_time / 1000.0
    ended = now if job.end_time is None else job.end_time / 1000.0
    return Row(
        job_id=str(job.submission_id),
        state=state,
        started=started,
        seconds=None if started is None else max(0.0, ended - started),
        run=run_of(job) or "",
        last=last or ("" if state == "running" else _first_line(job.message or "")),
    )


def lines_of(found: Sequence[Row], width: int) -> Iterator[Text]:
    """A paragraph for each job. Its id and run are never cut, because they are what the other
    commands take; the last line of its log is cut to `width` columns."""
    from rich.text import Text

    longest = max((len(row.job_id) for row in found), default=0)
    for row in found:
        head = Text.assemble(
            (row.job_id.ljust(longest), "bold"),
            "  ",
            (row.state.ljust(STATE_WIDTH), STYLES.get(row.state, "")),
            f"  since {_clock(row.started)}, {span(row.seconds)}" if row.started else "",
        )
        yield head
        yield Text.assemble(("  run   ", "dim"), row.run)
        if row.last:
            last = Text.assemble(("  last  ", "dim"), row.last)
            last.truncate(width, overflow="ellipsis")
            yield last


def span(seconds: float | None) -> str:
    """`45s`, `12m`, `3h05`, `2d04h`."""
    if seconds is None:
        return ""
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)}s"
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}" if hours < 24 else f"{hours // 24}d{hours % 24:02d}h"


def _clock(started: float | None) -> str:
    return "" if started is None else time.strftime("%b %d %H:%M", time.localtime(started))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
