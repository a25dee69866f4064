"""`foldblend fetch`, and the two hidden commands that it runs on the cluster."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tuner.options import Address

if TYPE_CHECKING:
    from tuner.cluster.fetch import Fetched

WhatOption = Annotated[
    str | None,
    typer.Option(
        "--what", metavar="LIST", help="Some of bundle,report,oof (default: all of them)."
    ),
]


def fetch(
    target: Annotated[
        str,
        typer.Argument(
            metavar="JOB|RUN",
            help="A job, or a run directory as the cluster sees it (a path or s3://…).",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where its folder goes.")
    ] = Path(),
    what: WhatOption = None,
    address: Address = None,
) -> None:
    """Bring a run's ensemble, report and OOF store from the cluster to this machine.

    [bold]foldblend fetch cars -o results[/bold]

    They come through the dashboard's port; a run on s3:// comes directly where this machine has
    keys for it. Interrupted, the same command goes on from there. DIR/<run> is then a run
    directory without weights (foldblend blend and report work on it), with the bundle in it.
    """
    from tuner.cluster.connection import Connection
    from tuner.cluster.contents import parse_what
    from tuner.cluster.fetch import fetch as bring

    console = Console()
    chosen = parse_what(what)
    print_fetched(console, bring(target, output, chosen, console, lambda: Connection.open(address)))


def pack_run(
    run: str,
    part_bytes: Annotated[int, typer.Option(min=1, help="The size of a part.")],
    what: WhatOption = None,
) -> None:
    """Pack a run where the dashboard can hand it out (a job that `fetch` starts)."""
    from tuner.cluster.contents import parse_what
    from tuner.cluster.parcel import pack_on_cluster

    typer.echo(pack_on_cluster(run, parse_what(what), part_bytes, typer.echo).to_line())


def drop_parcel(parcel: str) -> None:
    """Remove a parcel after it was fetched (a job that `fetch` starts)."""
    from tuner.cluster.parcel import remove_on_cluster

    remove_on_cluster(parcel)


def print_fetched(console: Console, fetched: Fetched) -> None:
    """What came, where it lies, and what to do with it."""

    def line(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    size, came = fetched.size_bytes / 1e6, fetched.came_bytes / 1e6
    line(
        f"{fetched.run} -> {fetched.folder}: {len(fetched.names)} files, {size:,.1f} MB "
        f"({came:,.1f} MB came now, from {fetched.source})"
    )
    if "report.html" in fetched.names:
        line(f"report -> {fetched.folder / 'report.html'}")
    if fetched.bundle:
        bundle = shlex.quote(str(fetched.bundle))
        line(f"next: foldblend predict {bundle} images/ -o submission.csv")


def register(app: typer.Typer) -> None:
    """Add the command, and hidden ones that only jobs call."""
    app.command(rich_help_panel="On a cluster")(fetch)
    app.command("pack-run", hidden=True)(pack_run)
    app.command("drop-parcel", hidden=True)(drop_parcel)
