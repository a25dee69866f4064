"""The command line. Heavy libraries are imported inside the commands: `--help` answers at once."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from tuner import cluster_commands
from tuner.help_text import unwrap
from tuner.options import Address, ConfigDir, Overrides
from tuner.preview_command import preview


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

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, e.g. runs/digits.")]


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


app.command()(preview)
cluster_commands.register(app)


@app.command()
def status(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|JOB", help="A run directory, e.g. runs/digits; or a job on a cluster."
        ),
    ],
    decisions: Annotated[
        bool, typer.Option("--decisions", help="Every decision of the race, in order, with why.")
    ] = False,
    address: Address = None,
) -> None:
    """How a running or past search stands, here or on a cluster."""
    if address or not ("/" in run or run.startswith("~") or Path(run).exists()):
        cluster_commands.status_on_cluster(run, decisions=decisions, address=address)
        return
    from tuner.replayed import read_run
    from tuner.summary import print_decisions, print_status

    stored = read_run(run)
    if decisions:
        print_decisions(_console(), stored)
    else:
        print_status(_console(), stored)


@app.command()
def blend(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="A run directory; or several, or OOF files of other programs (npy with csv, wide "
            "CSV or Parquet), or a folder of them.",
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(
            help="log_loss, accuracy, macro_f1, balanced_accuracy, top_5_accuracy, "
            "quadratic_kappa, auc, brier, ece, or sklearn:SCORER (default: the run's)."
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="auto, best_single, equal, log_mean, rank_mean, vote, convex, greedy, bagged, "
            "swap, class_mean or stacking; several compete."
        ),
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(help="Of the blend: none, temperature or vector.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="Classes with a second blend of their own: 403,404 or auto."),
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option(
            help="Overrides after the blend: a CSV or Parquet of id, class[, probability]"
            "[, strength]."
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="What each member adds.")] = False,
    submission: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the test predictions here (CSV).")
    ] = None,
    probabilities: Annotated[
        bool | None,
        typer.Option(
            "--probabilities/--classes", help="What -o holds for files of other programs."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Table of id, label[, fold][, group][, weight] for other programs' OOF."),
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="Test predictions, matched to members by name.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Its name in the tables.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Its name in the tables.")] = None,
    fold_column: Annotated[str | None, typer.Option(help="Its name in the tables.")] = None,
    group_column: Annotated[str | None, typer.Option(help="Its name in the tables.")] = None,
    weight_column: Annotated[str | None, typer.Option(help="Its name in the tables.")] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Folds to make where no table has any (default 5).")
    ] = None,
    normalise: Annotated[
        bool, typer.Option("--normalise", help="Divide rows that do not sum to 1 by their sum.")
    ] = False,
    folder: Annotated[
        Path, typer.Option("--to", help="Where blend.json goes for several sources.")
    ] = Path("blend"),
) -> None:
    """Fit the ensemble on out-of-fold probabilities: of a run, of several, or of any program.

    [bold]foldblend blend runs/cars --metric accuracy --explain[/bold]

    [bold]foldblend blend runs/a runs/b -o submission.csv[/bold]

    [bold]foldblend blend oof/ --labels train.csv --test test/ -o submission.csv[/bold]

    May run while the search goes on. The nested score is the one to believe: no row is predicted
    by weights that have seen its label.
    """
    from ensemble.sources.gather import GatherOptions
    from tuner.blend_command import BlendRequest, blend_gathered, blend_run_request
    from tuner.summary import print_blend, print_gathered

    given: dict[str, Any] = {
        "labels": labels,
        "test": tuple(test or ()),
        "id_column": id_column,
        "label_column": label_column,
        "fold_column": fold_column,
        "group_column": group_column,
        "weight_column": weight_column,
        "folds": folds,
        "normalise": normalise,
    }
    changes = {
        "metric": metric,
        "methods": method,
        "calibrate_blend": calibrate,
        "groups": _groups(group),
        "explain": explain or None,
    }
    request = BlendRequest(
        sources=tuple(sources),
        changes={name: value for name, value in changes.items() if value},
        gather=GatherOptions(**{name: value for name, value in given.items() if value}),
        rules=rules,
        submission=submission,
        probabilities=probabilities,
        folder=folder,
    )
    console = _console()
    if request.is_one_run:
        stored, fitted, written = blend_run_request(request, console)
        print_blend(console, stored, fitted, explain=explain, written=written)
    else:
        print_gathered(console, blend_gathered(request, console), explain=explain)


def _groups(given: list[str] | None) -> list[list[str]] | str | None:
    if not given:
        return None
    return "auto" if given == ["auto"] else [one.split(",") for one in given]


@app.command()
def report(
    run: Run,
    open_page: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write report.html: one page, without any other file, that shows why the ensemble is what it
    is; and the tables behind it as Parquet in analysis/."""
    from tuner.progress import saying
    from tuner.replayed import read_run
    from tuner.report_command import report_run

    console = _console()
    with saying(console) as say:
        page = report_run(read_run(run), say)
    console.print(f"report -> {page}", highlight=False, soft_wrap=True)
    if open_page:
        typer.launch(str(page))


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


unwrap(app)


def _console() -> Console:
    """A terminal's own width; wide enough for the tables where output goes to a file."""
    console = Console()
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=120)


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
