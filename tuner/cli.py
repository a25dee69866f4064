"""The command line. Heavy libraries are imported inside the commands: `--help` answers at once."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape


class NoMembersError(Exception):
    """A search that ended by itself without an ensemble: not the user's mistake, yet no success."""


app = typer.Typer(
    name="foldblend",
    help="From labelled images to the best ensemble: search backbones and hyper-parameters over "
    "folds, stop weak runs early, blend what survives.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Hydra overrides, e.g. experiment=csv data.path=train.csv optimizer.lr=3e-4 "
        "'backbone=choice(convnext_tiny,vit_small)'.",
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, e.g. runs/digits.")]
ConfigDir = Annotated[
    Path | None,
    typer.Option(
        "--config-dir", "-c", help="A folder of your own groups: experiment/, backbone/ …."
    ),
]


@app.command()
def search(
    overrides: Overrides = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run.")
    ] = None,
    config_dir: ConfigDir = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Without Ray, in this process (for debugging).")
    ] = False,
) -> None:
    """Search, blend, report: the main job.

    [bold]foldblend search experiment=digits[/bold]  (the built-in example)

    [bold]foldblend search experiment=csv data.path=train.csv data.images=train[/bold]

    [bold]foldblend search --resume runs/digits[/bold]

    Attaches to the Ray cluster of RAY_ADDRESS, or starts a local Ray. Ctrl-C stops after the
    current epochs; --resume goes on from there.
    """
    from tuner import study
    from tuner.summary import print_summary

    console = _console()
    _check_search_arguments(overrides, resume, config_dir)
    if resume:
        outcome = study.resume(resume, console=console, in_process=in_process)
    else:
        outcome = study.search(
            overrides or [], config_dir=config_dir, console=console, in_process=in_process
        )
    print_summary(console, outcome)
    if outcome.stopped:
        raise typer.Exit(130)
    if outcome.blend is None:
        raise NoMembersError(outcome.why_empty())


@app.command()
def show(overrides: Overrides = None, config_dir: ConfigDir = None) -> None:
    """Print the resolved configuration and the search space; train nothing."""
    from search_spaces.show import render
    from search_spaces.space import load_study

    console = _console()
    for part in render(load_study(overrides or [], config_dir)):
        console.print(part)


@app.command()
def status(
    run: Run,
    decisions: Annotated[
        bool, typer.Option("--decisions", help="Every decision of the race, in order, with why.")
    ] = False,
) -> None:
    """How a running or past search stands."""
    from tuner.replayed import read_run
    from tuner.summary import print_decisions, print_status

    stored = read_run(run)
    if decisions:
        print_decisions(_console(), stored)
    else:
        print_status(_console(), stored)


@app.command()
def blend(
    run: Run,
    metric: Annotated[
        str | None, typer.Option(help="log_loss, accuracy or macro_f1 (default: the run's).")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="equal, greedy or convex; may be given several times.")
    ] = None,
) -> None:
    """Fit the ensemble on the out-of-fold probabilities of a finished or running search."""
    from search_spaces.config import BlendConfig
    from search_spaces.validation import validate
    from tuner.finish import blend_stored, require_members, save_ledger
    from tuner.replayed import read_run
    from tuner.summary import print_blend

    stored = read_run(run)
    require_members(stored)
    changes = {"metric": metric, "methods": method}
    wanted = stored.config.blend.model_dump() | {k: v for k, v in changes.items() if v}
    save_ledger(stored)
    fitted = blend_stored(stored, validate(BlendConfig, wanted, "blend"))
    print_blend(_console(), stored, fitted)


@app.command()
def export(
    run: Run,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle (new).")],
) -> None:
    """Write the blended ensemble as a bundle: weights, classes, preprocessing, provenance."""
    from trainables.bundle import export_bundle
    from tuner.finish import blend_stored, require_members
    from tuner.replayed import read_run
    from tuner.summary import print_bundle

    stored = read_run(run)
    require_members(stored)
    if not stored.directory.blend.exists():
        blend_stored(stored)
    bundle = export_bundle(run, output)
    print_bundle(_console(), bundle, output)


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder made by export.")],
    images: Annotated[
        str, typer.Argument(help="A folder of images, a CSV of image names, or a quoted glob.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The submission to write (CSV).")],
    probabilities: Annotated[
        Path | None, typer.Option("--probabilities", "-p", help="Class probabilities (Parquet).")
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="Where the images of a CSV lie, if not beside it.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
) -> None:
    """Class of every image, by an exported ensemble."""
    from trainables.bundle_predict import predict_to_files
    from tuner.progress import steps

    console = _console()
    with steps(console) as step:
        count = predict_to_files(
            bundle,
            images,
            output,
            probabilities=probabilities,
            root=root,
            batch_size=batch_size,
            progress=step("predicting"),
        )
    console.print(f"{count} images -> {output}")
    if probabilities:
        console.print(f"class probabilities -> {probabilities}")


def _console() -> Console:
    """A terminal's own width; wide enough for the tables where output goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def main() -> None:
    """Run a command; a user's mistake is one line and exit code 2, never a traceback."""
    try:
        app()
    except NoMembersError as error:
        _print_error(str(error))
        sys.exit(1)
    except Exception as error:
        sys.exit(_report(error))


def _report(error: Exception) -> int:
    """Print a user's mistake, problems of the data as a table; raise anything else again."""
    if problems := getattr(error, "problems", ()):
        from tuner.view import problems_view

        rows = [(one.kind, one.where, one.detail) for one in problems]
        Console(stderr=True).print(problems_view(rows))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        from trainables.failure import no_space_message

        _print_error(no_space_message(error))
    elif _is_for_the_user(error):
        _print_error(str(error))
    else:
        raise error
    return 2


def _is_for_the_user(error: Exception) -> bool:
    """Whether the message is a line for the user: an error class of ours, or the system's word on
    a file. Another library's ValueError is a bug of ours and keeps its traceback."""
    package = type(error).__module__.partition(".")[0]
    ours = package in ("tuner", "trainables", "search_spaces", "ensemble")
    return isinstance(error, OSError) or (ours and isinstance(error, ValueError))


def _print_error(message: str) -> None:
    line = " ".join(message.split())
    Console(stderr=True, soft_wrap=True).print(
        f"[bold red]error:[/bold red] {escape(line)}", highlight=False
    )


def _check_search_arguments(
    overrides: list[str] | None, resume: str | None, config_dir: Path | None
) -> None:
    from tuner.errors import UserError

    if resume and (overrides or config_dir):
        raise UserError(
            "--resume goes on with the configuration of the run; it takes no overrides "
            f"(got {' '.join(overrides or []) or config_dir})"
        )
    if not resume and not overrides:
        raise UserError(
            "nothing to search: give experiment=digits for the example, or "
            "experiment=csv data.path=train.csv for your own images"
        )


if __name__ == "__main__":
    main()
