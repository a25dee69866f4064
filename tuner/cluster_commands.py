"""The commands that talk to a cluster: submit, jobs, logs, stop, resume."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tuner import fetch_command
from tuner.options import Address, ConfigDir, Overrides

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from tuner.cluster.check import Findings
    from tuner.cluster.connection import Connection
    from tuner.cluster.submit import Queued

Job = Annotated[
    str,
    typer.Argument(metavar="JOB", help="A job's id, its beginning, or the name of its run."),
]
NoFollow = Annotated[
    bool, typer.Option("--no-follow", help="Return when the job is queued; print no log.")
]
NoCheck = Annotated[
    bool,
    typer.Option("--no-check", help="Do not look first whether data and storage can be reached."),
]


def submit(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    address: Address = None,
    no_follow: NoFollow = False,
    no_check: NoCheck = False,
) -> None:
    """Run a search on a cluster, as a job there: this machine may be switched off meanwhile.

    [bold]foldblend submit experiment=folder name=cars data.path=/data/cars
    storage=s3://bucket/foldblend[/bold]

    Takes what [bold]foldblend search[/bold] takes. Paths are those of the cluster's nodes. First
    a short job looks there for the data, for a storage that all nodes share, and for the same
    versions. Ctrl-C leaves the job running.
    """
    from tuner.cluster.submit import submit_search
    from tuner.errors import UserError

    if not overrides:
        raise UserError(
            "nothing to search: give experiment=folder data.path=… as for `foldblend search`"
        )
    with _connected(address) as (connection, console):
        queued = submit_search(
            connection,
            overrides,
            config_dir,
            check=not no_check,
            show=_shower(connection, console),
        )
        _after_queued(connection, console, queued, follow=not no_follow)


def resume(
    job: Annotated[
        str,
        typer.Argument(metavar="JOB|RUN", help="A job, or a run directory as the cluster sees it."),
    ],
    address: Address = None,
    no_follow: NoFollow = False,
    no_check: NoCheck = False,
) -> None:
    """Go on with a search on the cluster that was stopped, failed or lost its head.

    [bold]foldblend resume s3://bucket/foldblend/cars[/bold]
    """
    from tuner.cluster.submit import submit_resume

    with _connected(address) as (connection, console):
        queued = submit_resume(
            connection, job, check=not no_check, show=_shower(connection, console)
        )
        _after_queued(connection, console, queued, follow=not no_follow)


def jobs(address: Address = None) -> None:
    """List the searches that the cluster runs and has run since its head began."""
    from tuner.cluster.listing import lines_of, rows

    with _connected(address) as (connection, console):
        found = rows(connection)
        for line in lines_of(found, console.width):
            console.print(line, soft_wrap=True)
        if not found:
            none = f"no jobs at {connection.address.url}; `foldblend submit` makes one"
            console.print(none, highlight=False, soft_wrap=True)


def logs(
    job: Job,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends.")
    ] = False,
    address: Address = None,
) -> None:
    """Print a job's log; with -f as it grows, also across a lost connection."""
    from tuner.cluster.control import log_of
    from tuner.cluster.errand import without_rays_lines
    from tuner.cluster.names import find_job

    with _connected(address) as (connection, console):
        found = find_job(job, connection.jobs())
        if follow:
            _follow(connection, console, found)
        else:
            typer.echo(without_rays_lines(log_of(connection, found)), nl=False)


def stop(
    job: Job,
    now: Annotated[
        bool, typer.Option("--now", help="Kill it: the epochs in flight are lost.")
    ] = False,
    address: Address = None,
) -> None:
    """Stop a job so that it can be resumed: fold runs end their epoch and write a checkpoint.

    Waits for the end. Ctrl-C kills the job at once.
    """
    from tuner.cluster import control
    from tuner.cluster.names import find_job

    with _connected(address) as (connection, console):
        found = find_job(job, connection.jobs())
        job_id = str(found.submission_id)
        control.stop(connection, found, now=now)

        def interrupted() -> None:
            _note("killing it; the epochs in flight are lost")
            control.kill(connection, job_id)

        if not now:
            _note(f"stopping {job_id}: fold runs end their epochs (Ctrl-C kills it)")
        with console.status(f"waiting for {job_id} to end"):
            ended = control.wait_for_end(connection, job_id, interrupted)
        _say_end(connection, console, ended)


def status_on_cluster(text: str, *, decisions: bool, address: str | None) -> None:
    """The job's state, then what `foldblend status RUN` says on the cluster."""
    from tuner.cluster.control import status_there
    from tuner.cluster.names import is_run
    from tuner.cluster.trouble import UnreachableError
    from tuner.errors import UserError

    try:
        with _connected(address) as (connection, console):
            run = text if is_run(text) else _print_job(connection, console, text)
            width, colours = console.width, console.is_terminal
            said = status_there(connection, run, decisions=decisions, width=width, colours=colours)
            typer.echo(said, nl=False)
    except UnreachableError as error:
        if address:
            raise
        raise UserError(f"{text}: no run directory of this name here, and {error}") from error


def _print_job(connection: Connection, console: Console, text: str) -> str:
    """How a job stands, in a few lines; returns its run directory."""
    from tuner.cluster.listing import lines_of, row_of
    from tuner.cluster.names import find_job, our_run

    job = find_job(text, connection.jobs())
    run = our_run(job)
    for line in lines_of([row_of(connection, job)], console.width):
        console.print(line, soft_wrap=True)
    return run


def check_cluster(needs: str) -> None:
    """Look whether this cluster sees what a search needs (a job that `submit` starts)."""
    from tuner.cluster.check import main

    main(needs)


def kill_job(job: str) -> None:
    """Kill the processes of a job on this machine (a job that `stop --now` starts)."""
    from tuner.cluster.control import kill_here, killed_line

    typer.echo(killed_line(kill_here(job)))


def register(app: typer.Typer) -> None:
    """Add the commands; those that only jobs call are hidden."""
    for command in (submit, jobs, logs, stop, resume):
        app.command(rich_help_panel="On a cluster")(command)
    app.command("check-cluster", hidden=True)(check_cluster)
    app.command("kill-job", hidden=True)(kill_job)
    fetch_command.register(app)


# --- what is printed ---------------------------------------------------------------------------


@contextmanager
def _connected(address: str | None) -> Iterator[tuple[Connection, Console]]:
    """A connection and the screen."""
    from tuner.cluster.connection import Connection

    yield Connection.open(address), Console()


def _shower(connection: Connection, console: Console) -> Callable[[Findings], None]:
    from tuner.cluster.verdict import NO_WORKER, has_no_worker, table_of

    def show(findings: Findings) -> None:
        console.print(table_of(findings))
        if has_no_worker(findings, connection.head().resources.get("CPU", 0.0)):
            _note(NO_WORKER)

    return show


def _after_queued(
    connection: Connection, console: Console, queued: Queued, *, follow: bool
) -> None:
    """Say what the job is called and what can be done with it; then its log, to the end."""
    more = connection.address.option
    console.print(f"job [bold]{queued.job_id}[/bold]", highlight=False, soft_wrap=True)
    console.print(f"run {escape(queued.run)}", highlight=False, soft_wrap=True)
    for word, command in (
        ("watch", f"foldblend logs {queued.job_id} -f{more}"),
        ("stop", f"foldblend stop {queued.job_id}{more}"),
        ("fetch", f"foldblend fetch {queued.job_id}{more}"),
    ):
        console.print(f"  [dim]{word:<6}[/dim] {command}", highlight=False, soft_wrap=True)
    if follow:
        _follow(connection, console, connection.job(queued.job_id))


def _follow(connection: Connection, console: Console, job: JobDetails) -> None:
    """The log until the job has ended; ends this command as the job did."""
    from tuner.cluster.control import exit_code, show_log

    job_id = str(job.submission_id)
    try:
        ended = show_log(connection, job, _note)
    except KeyboardInterrupt:
        more = connection.address.option
        _note(
            f"{job_id} goes on; come back with `foldblend logs {job_id} -f{more}`, end it with "
            f"`foldblend stop {job_id}{more}`"
        )
        raise typer.Exit(0) from None
    _say_end(connection, console, ended)
    raise typer.Exit(exit_code(ended))


def _say_end(connection: Connection, console: Console, job: JobDetails) -> None:
    from tuner.cluster.names import run_of

    state = str(job.status.value).lower()
    next_command = "fetch" if state == "succeeded" else "resume"
    run = shlex.quote(run_of(job) or str(job.submission_id))
    command = f"foldblend {next_command} {run}{connection.address.option}"
    console.print(f"{job.submission_id} {state}; {command}", highlight=False, soft_wrap=True)
    if state == "failed" and job.driver_exit_code is None and job.message:
        _note(job.message.strip().partition("\n")[0])


def _note(text: str) -> None:
    """For people, beside the log that goes to standard output."""
    Console(stderr=True, soft_wrap=True).print(
        f"[yellow]note:[/yellow] {escape(text)}", highlight=False
    )
