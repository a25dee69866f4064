"""A job that runs: followed to its end, stopped gently or at once, asked how it stands."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.cluster.connection import Connection
from tuner.cluster.errand import last_line, run_errand
from tuner.cluster.follow import WithoutRaysLines, follow, whole_log
from tuner.cluster.names import run_of
from tuner.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

KILL_COMMAND = "kill-job"
POLL_SECONDS = 1.0
# How often to look again for the end of a job whose processes were not found.
NOTICED_POLLS = 10
# What a shell calls a process that Ctrl-C ended: the same as a local search that was stopped.
STOPPED_CODE = 130


def exit_code(job: JobDetails) -> int:
    """Of a command that waited for this job: the job's own where it has one."""
    status = str(job.status.value)
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":
        return STOPPED_CODE
    return job.driver_exit_code or 1


def show_log(connection: Connection, job: JobDetails, say: Callable[[str], None]) -> JobDetails:
    """Print the log as it grows, until the job has ended; returns how it ended."""
    write = WithoutRaysLines(_to_screen)
    try:
        return follow(connection, str(job.submission_id), write, run=run_of(job), say=say)
    finally:
        write.close()


def log_of(connection: Connection, job: JobDetails) -> str:
    """The whole log so far."""
    return whole_log(connection, str(job.submission_id))


def stop(connection: Connection, job: JobDetails, *, now: bool = False) -> None:
    """Ask the job to end: every fold run ends its epoch and keeps its checkpoint. `now`: kill it,
    which loses the epochs in flight. UserError where it has ended already."""
    job_id = str(job.submission_id)
    if job.status.is_terminal():
        raise UserError(f"{job_id}: has ended already ({str(job.status.value).lower()})")
    with connection.words():
        connection.client.stop_job(job_id)
    if now:
        kill(connection, job_id)


def kill(connection: Connection, job_id: str) -> None:
    """End a job's processes at once. Ray's own API has no such thing: it waits. UserError where
    none was found and the job has not ended by itself."""
    answer = run_errand(connection, "kill", ["foldblend", KILL_COMMAND, job_id])
    if answer.code:
        raise UserError(f"{job_id}: could not be killed: {last_line(answer.log)}")
    if last_line(answer.log) == killed_line(0) and not _ends_soon(connection, job_id):
        raise UserError(
            f"{job_id}: nothing was killed: the head found no process of it that it may end. It "
            "was asked to stop, and does when its fold runs have ended their epochs; to end it at "
            "once, kill its `foldblend search` there (`ray attach cluster.yaml`)"
        )


def kill_here(job_id: str) -> int:
    """On the head: SIGKILL every process of a job; returns how many there were.

    Ray gives a job's processes, and no others, the job's id in RAY_JOB_CONFIG_JSON_ENV_VAR."""
    found = [int(path.parent.name) for path in _environments() if _names(path, job_id)]
    for process in found:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(found)


def killed_line(count: int) -> str:
    """How `kill-job` says what it did."""
    return f"{count} processes"


def status_there(
    connection: Connection, run: str, *, decisions: bool, width: int, colours: bool
) -> str:
    """What `foldblend status RUN` prints on the cluster, where the run directory can be seen."""
    env = {"COLUMNS": str(width)}
    if colours:
        env |= {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    command = ["foldblend", "status", run, *(["--decisions"] if decisions else [])]
    answer = run_errand(connection, "status", command, env=env)
    if answer.code:
        raise UserError(f"on the cluster: {last_line(answer.log).removeprefix('error: ')}")
    return answer.log


def wait_for_end(
    connection: Connection, job_id: str, interrupted: Callable[[], None]
) -> JobDetails:
    """Wait until the job has ended. Each Ctrl-C calls `interrupted`, and waiting goes on."""
    while True:
        try:
            job = connection.job(job_id)
            if job.status.is_terminal():
                return job
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            interrupted()


def _ends_soon(connection: Connection, job_id: str) -> bool:
    """Whether a job whose processes are gone has ended: Ray notices that a moment later."""
    for _ in range(NOTICED_POLLS):
        if connection.job(job_id).status.is_terminal():
            return True
        time.sleep(POLL_SECONDS)
    return False


def _environments() -> Iterator[Path]:
    return Path("/proc").glob("[0-9]*/environ")


def _names(environment: Path, job_id: str) -> bool:
    try:
        values = environment.read_bytes().split(b"\0")
    except OSError:  # it has ended, or belongs to somebody else
        return False
    # As Ray writes it: letters beyond ASCII are escaped.
    begin, sign = b"RAY_JOB_CONFIG_JSON_ENV_VAR=", json.dumps(job_id).encode()
    return any(value.startswith(begin) and sign in value for value in values)


def _to_screen(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()
