"""Jobs by name: how an id is made, and which job a person means."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuner.cluster import trouble
from tuner.cluster.errand import is_errand
from tuner.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

RUN, NAME, VERSION = "foldblend_run", "foldblend_name", "foldblend_version"


def new_job_id(run_name: str) -> str:
    """`foldblend-<run name>-<8 hex>`."""
    return f"foldblend-{run_name}-{uuid.uuid4().hex[:8]}"


def metadata(run: str) -> dict[str, str]:
    """What a job carries, so that its run is found by whoever sees the job."""
    from importlib.metadata import version

    return {RUN: run, NAME: run_name(run), VERSION: version("foldblend")}


def run_name(run: str) -> str:
    """The last part of a run directory's path or URI."""
    return run.partition("?")[0].rstrip("/").rpartition("/")[2]


def run_of(job: JobDetails) -> str | None:
    """The run directory that a job searches; None for a job that is not ours."""
    return (job.metadata or {}).get(RUN)


def our_run(job: JobDetails) -> str:
    """The run directory that a job searches. UserError for a job that is not ours."""
    run = run_of(job)
    if run is None:
        raise UserError(f"{job.submission_id}: no search of ours; `foldblend jobs` lists them")
    return run


def our_jobs(jobs: Sequence[JobDetails]) -> list[JobDetails]:
    """Searches, oldest first: neither errands nor other people's jobs."""
    return [job for job in jobs if run_of(job) and not is_errand(job)]


def find_job(text: str, jobs: Sequence[JobDetails]) -> JobDetails:
    """The job of this id, else the newest of this run (name or directory), else the only one whose
    id begins so. NoSuchJobError names what is near; UserError where runs of several directories
    have this name, because the newest of them may be somebody else's."""
    by_id = {str(job.submission_id): job for job in jobs}
    if text in by_id:
        return by_id[text]
    ours = our_jobs(jobs)
    newest = {our_run(job): job for job in ours if _is_of_run(job, text)}
    if len(newest) > 1:
        raise trouble.several_runs(text, [_described(job) for job in newest.values()])
    if newest:
        return next(iter(newest.values()))
    begun = [job for job in ours if str(job.submission_id).startswith(text)]
    if len(begun) == 1:
        return begun[0]
    raise trouble.no_such_job(text, [str(job.submission_id) for job in ours])


def is_run(text: str) -> bool:
    """Whether a person means a run directory rather than a job."""
    return "/" in text or text.startswith("~")


def _is_of_run(job: JobDetails, text: str) -> bool:
    """Whether `text` is the name or the directory of a job's run."""
    return text == (job.metadata or {}).get(NAME) or text.rstrip("/") == run_of(job)


def _described(job: JobDetails) -> str:
    return f"{job.submission_id} ({run_of(job)}, {str(job.status.value).lower()})"
