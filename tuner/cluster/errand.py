"""A short job on the head whose log is the answer; it is deleted afterwards."""

from __future__ import annotations

import shlex
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.cluster.connection import Connection
from tuner.cluster.packing import JOB_VARIABLE
from tuner.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

ERRAND = "foldblend_errand"
POLL_SECONDS = 0.5
# Of shells: the command was not found, or may not be run.
NOT_FOUND_CODES = (126, 127)


@dataclass(frozen=True)
class Answer:
    """`code`: the command's exit code. `log`: what it printed, without Ray's own lines."""

    code: int
    log: str


def run_errand(
    connection: Connection,
    purpose: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    seconds: float = 600.0,
) -> Answer:
    """Run `command` on the head, wait for its end, return what it printed.

    Raises UserError where it cannot be started, or has not ended after `seconds`."""
    job_id = f"foldblend-{purpose}-{uuid.uuid4().hex[:8]}"
    with connection.words():
        connection.client.submit_job(
            entrypoint=shlex.join(command),
            submission_id=job_id,
            metadata={ERRAND: purpose},
            runtime_env={"env_vars": {**(env or {}), JOB_VARIABLE: job_id}},
        )
    try:
        ended = _wait(connection, job_id, seconds)
        with connection.words():
            log = connection.client.get_job_logs(job_id)
    except BaseException:
        _forget(connection, job_id, stop=True)
        raise
    _forget(connection, job_id)
    return _answer(connection, ended, log)


def is_errand(job: JobDetails) -> bool:
    return ERRAND in (job.metadata or {})


def without_rays_lines(log: str) -> str:
    """A job's log without the lines in which Ray says that it starts it."""
    lines = log.splitlines(keepends=True)
    while lines and is_rays_line(lines[0]):
        del lines[0]
    return "".join(lines)


def last_line(log: str) -> str:
    """What a command that failed said last."""
    return (log.strip().splitlines() or ["it said nothing"])[-1].strip()[:300]


def is_rays_line(line: str) -> bool:
    return line.startswith("Running entrypoint for job ") or "Runtime env is setting up" in line


def _wait(connection: Connection, job_id: str, seconds: float) -> JobDetails:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = connection.job(job_id)
        if job.status.is_terminal():
            return job
        time.sleep(POLL_SECONDS)
    raise UserError(
        f"{connection.address.url}: a short job ({job_id}) did not end in {seconds:.0f} s; look at "
        "the cluster (`ray status`, the dashboard's Jobs page)"
    )


def _answer(connection: Connection, job: JobDetails, log: str) -> Answer:
    code = job.driver_exit_code
    if code in NOT_FOUND_CODES:
        raise UserError(
            f"{connection.address.url}: `foldblend` is not on the PATH of the cluster's head; "
            "install it in the environment in which `ray start` runs"
        )
    if code is None:
        why = " ".join((job.message or "it says nothing").split())[:300]
        raise UserError(f"{connection.address.url}: the cluster could not run a job: {why}")
    return Answer(code, without_rays_lines(log))


def _forget(connection: Connection, job_id: str, *, stop: bool = False) -> None:
    """Remove the job from the cluster's list. Best effort: it is only tidiness."""
    calls: list[Any] = [connection.client.stop_job] if stop else []
    for call in (*calls, connection.client.delete_job):
        try:
            with connection.words():
                call(job_id)
        except (UserError, RuntimeError):
            continue
