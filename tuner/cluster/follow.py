"""A job's log as it grows, over a connection that may break: what was shown is not shown again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.cluster import trouble
from tuner.cluster.connection import Connection
from tuner.cluster.errand import is_rays_line

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

# After so long without a word, ask whether the cluster still answers: a tunnel may die silently.
SILENCE_SECONDS = 30.0
# A cluster that answers may still have lost the log's own connection: then the log is opened again,
# at first after one silence, then less and less often, because each time all of it is read.
LONGEST_SILENCE_SECONDS = 600.0
# Between two tries to connect again, and how long to try in all. A sleeping laptop's time does
# not count.
PAUSE_SECONDS = 5.0
PATIENCE_SECONDS = 900.0
# After a tail that ended before its job.
BREATH_SECONDS = 1.0


@dataclass(frozen=True)
class Patience:
    """How a broken connection is met, in seconds: `silence` before it is doubted, `longest` before
    a log that says nothing is opened again, `pause` between tries, `limit` of all tries."""

    silence: float = SILENCE_SECONDS
    longest: float = LONGEST_SILENCE_SECONDS
    pause: float = PAUSE_SECONDS
    limit: float = PATIENCE_SECONDS


def follow(
    connection: Connection,
    job_id: str,
    write: Callable[[str], None],
    *,
    run: str | None = None,
    skip: int = 0,
    say: Callable[[str], None] = lambda text: None,
    patience: Patience = Patience(),
) -> JobDetails:
    """Pass the log to `write`, in pieces, until the job has ended; returns how it ended.

    `skip`: so many characters of it were shown before. `say` hears about lost connections. `run`
    is named in the error of a cluster that does not come back (`UnreachableError`).
    NoSuchJobError where the head has been started anew meanwhile."""
    shown, lost_at, wait = skip, None, patience.silence
    while True:
        try:
            for piece in _pieces(connection, job_id, shown, patience.silence, wait):
                if lost_at is not None:
                    say("connected again")
                lost_at = None
                wait = patience.silence if piece else min(2 * wait, patience.longest)
                shown += len(piece)
                write(piece)
            job = connection.job(job_id)
            if job.status.is_terminal():
                return job
        except trouble.NoSuchJobError as error:
            raise trouble.head_anew(connection.address, job_id, run) from error
        except trouble.UnreachableError as error:
            if lost_at is None:
                lost_at = time.monotonic()
                say(trouble.while_away(connection.address, job_id, run))
            if time.monotonic() - lost_at > patience.limit:
                raise trouble.lost(connection.address, job_id, run, error) from error
        time.sleep(patience.pause if lost_at is not None else BREATH_SECONDS)


def whole_log(connection: Connection, job_id: str) -> str:
    """All that a job has said so far, Ray's own lines included."""
    with connection.words():
        return str(connection.client.get_job_logs(job_id))


class WithoutRaysLines:
    """Passes text on to `write`, except Ray's own lines at its beginning."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._begun, self._held = write, False, ""

    def __call__(self, piece: str) -> None:
        if self._begun:
            self._write(piece)
            return
        *lines, rest = (self._held + piece).split("\n")
        while lines and is_rays_line(lines[0]):
            del lines[0]
        self._held = rest
        if lines:
            self._begun, self._held = True, ""
            self._write("\n".join([*lines, rest]))

    def close(self) -> None:
        """At the end: a last line without its end."""
        if self._held and not is_rays_line(self._held):
            self._write(self._held)
        self._held = ""


def _pieces(
    connection: Connection, job_id: str, skip: int, silence: float, wait: float
) -> Iterator[str]:
    """The log from character `skip` on, as it is written; "" as in `_watched`. Raises
    UnreachableError."""
    source = _watched(connection, job_id, silence, wait)
    with asyncio.Runner() as runner:  # it turns Ctrl-C into a tidy end of what is awaited
        while True:
            with trouble.cut_in_words(connection.address, connection.token, job_id):
                piece = runner.run(_next(source))
            if piece is None:
                return
            new, skip = piece[skip:], max(0, skip - len(piece))
            if new or not piece:
                yield new


async def _next(source: AsyncGenerator[str]) -> str | None:
    """None at the end."""
    return await anext(source, None)


async def _watched(
    connection: Connection, job_id: str, silence: float, wait: float
) -> AsyncGenerator[str]:
    """Ray's tail. Every `silence` seconds without a word the cluster is asked for the job, which
    raises where it is gone. Where the job has ended, what the tail has not brought is read in one
    piece; after `wait` seconds "" is the last piece, and the tail is to be opened again."""
    tail = _Tail(connection.client.tail_job_logs(job_id))
    heard, silent = 0, 0.0
    try:
        while silent < wait:
            try:
                piece = await tail.next(silence)
            except StopAsyncIteration:
                return
            if piece is not None:
                heard, silent = heard + len(piece), 0.0
                yield piece
                continue
            silent += silence
            if (await asyncio.to_thread(connection.job, job_id)).status.is_terminal():
                yield (await asyncio.to_thread(whole_log, connection, job_id))[heard:]
                return
        yield ""
    finally:
        await tail.close()


class _Tail:
    """Pieces of a log, waited for so long and no longer; none is lost by not waiting."""

    def __init__(self, pieces: AsyncGenerator[str]) -> None:
        self._pieces = pieces
        self._waiting: asyncio.Task[str] | None = None

    async def next(self, seconds: float) -> str | None:
        """None where none came in time. StopAsyncIteration at the end."""
        self._waiting = self._waiting or asyncio.ensure_future(anext(self._pieces))
        done, _ = await asyncio.wait({self._waiting}, timeout=seconds)
        if not done:
            return None
        task, self._waiting = self._waiting, None
        return task.result()

    async def close(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.gather(self._waiting, return_exceptions=True)
        await self._pieces.aclose()
