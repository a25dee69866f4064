"""A search, or the rest of one, as a job of the cluster: composed, checked, packed, queued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.cluster import trouble
from tuner.cluster.check import Findings
from tuner.cluster.connection import Connection
from tuner.cluster.errand import last_line, run_errand
from tuner.cluster.names import (
    find_job,
    is_run,
    metadata,
    new_job_id,
    our_jobs,
    our_run,
    run_name,
    run_of,
)
from tuner.cluster.needs import Needs, is_absolute, needs_of
from tuner.cluster.packing import packed, resume_command, runtime_env, search_command
from tuner.cluster.verdict import judge
from tuner.errors import UserError

CHECK_COMMAND = "check-cluster"


@dataclass(frozen=True)
class Queued:
    """A job that the cluster has taken. `run`: its run directory as the cluster names it."""

    job_id: str
    run: str


def submit_search(
    connection: Connection,
    overrides: Sequence[str],
    config_dir: Path | None,
    *,
    check: bool = True,
    show: Callable[[Findings], None] = lambda findings: None,
) -> Queued:
    """Queue a new search. `show` gets what the check found, whatever it is.

    Raises UserError or ConfigError before anything is queued: for what is wrong in the overrides,
    on the cluster, or where the run exists already."""
    from search_spaces.space import load_study

    study = load_study(overrides, config_dir)
    needs = needs_of(study)
    run = _checked(connection, needs, show) if check else needs.run
    with packed(config_dir) as folder:
        command = search_command(overrides, packed=folder is not None)
        return _queue(connection, run, command, folder)


def submit_resume(
    connection: Connection,
    text: str,
    *,
    check: bool = True,
    show: Callable[[Findings], None] = lambda findings: None,
) -> Queued:
    """Queue the rest of a search, named by its job or its run directory."""
    run = run_to_resume(connection, text)
    _refuse_running(connection, run)
    if check:
        run = _checked(connection, Needs(run, exists=True), show)
    return _queue(connection, run, resume_command(run), None)


def run_to_resume(connection: Connection, text: str) -> str:
    """The run directory behind a job's id, a run's name or a run directory."""
    if is_run(text):
        if not is_absolute(text):
            raise UserError(
                f"{text}: relative to this machine's folder; give the run directory as the cluster "
                "names it (`foldblend jobs` shows it), or the job"
            )
        return text.rstrip("/")
    return our_run(find_job(text, connection.jobs()))


def _checked(connection: Connection, needs: Needs, show: Callable[[Findings], None]) -> str:
    """The run directory as the head names it, once the cluster was found fit for it."""
    trouble.check_ray(connection.address, connection.ray_version)
    answer = run_errand(connection, "check", ["foldblend", CHECK_COMMAND, needs.to_json()])
    findings = Findings.from_log(answer.log)
    if findings is None:
        raise UserError(
            f"{connection.address.url}: the cluster could not be checked: "
            f"{last_line(answer.log)}; --no-check submits all the same"
        )
    show(findings)
    judge(findings, needs)
    return findings.run


def _queue(connection: Connection, run: str, command: str, folder: Path | None) -> Queued:
    _refuse_running(connection, run)
    job_id = new_job_id(run_name(run))
    with connection.words():
        connection.client.submit_job(
            entrypoint=command,
            submission_id=job_id,
            metadata=metadata(run),
            runtime_env=runtime_env(job_id, folder),
        )
    return Queued(job_id, run)


def _refuse_running(connection: Connection, run: str) -> None:
    """On an object store nothing else keeps two searches out of one run directory."""
    for job in our_jobs(connection.jobs()):
        if run_of(job) == run and not job.status.is_terminal():
            raise UserError(
                f"{run}: the job {job.submission_id} searches it now; watch it with `foldblend "
                f"logs {job.submission_id} -f{connection.address.option}`, or stop it first"
            )
