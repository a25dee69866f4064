"""What is printed when a search ends, and by `status` and `blend`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from ensemble.blend_value import Blend, read_blend
from ensemble.files import Location
from tuner.cluster.packing import is_job
from tuner.journal import decisions_of
from tuner.progress import describe_decision, stamp
from tuner.replayed import StoredRun
from tuner.standings import is_optimistic
from tuner.view import blend_view, leaderboard, members_view, race_view

if TYPE_CHECKING:
    from trainables.bundle import Bundle
    from tuner.blend_command import Blended
    from tuner.study import Outcome

LEADERBOARD_ROWS = 20
Written = Sequence[tuple[str, str]]  # a file, and what it is


def shown(root: Location) -> str:
    """A run as a person would type it: relative where it lies below the current folder. In a job on
    a cluster nobody stands in that folder."""
    if not is_job() and root.is_local and root.local_path.is_relative_to(Path.cwd()):
        return str(root.local_path.relative_to(Path.cwd()))
    return str(root)


def print_summary(console: Console, outcome: Outcome) -> None:
    """Leaderboard, weights, honest score, where everything lies, and the next command."""
    stored = outcome.stored
    root = stored.directory.root
    _print_race(console, stored, outcome.blend)
    if outcome.blend:
        _print_ensemble(console, stored, outcome.blend, "the ensemble")
    _print_files(console, stored)
    if outcome.logs:
        console.print(f"  {'Ray logs':<22}{escape(outcome.logs)}", highlight=False, soft_wrap=True)
    if is_job():  # whoever follows it says what comes next: `foldblend fetch`, or `resume`
        return
    if outcome.stopped or not outcome.blend:
        _next(console, "search", "--resume", shown(root))
    else:
        _next_is_export(console, stored)


def print_status(console: Console, stored: StoredRun) -> None:
    """The race, the blend where there is one, and the files."""
    blend = read_blend(stored.directory.blend) if stored.directory.blend.exists() else None
    _print_race(console, stored, blend)
    if blend:
        _print_ensemble(console, stored, blend, "the ensemble (blend.json)")
    _print_files(console, stored)


def print_blend(
    console: Console,
    stored: StoredRun,
    blend: Blend,
    *,
    explain: bool = False,
    written: Written = (),
) -> None:
    """A run's members with their weights, and the honest score."""
    _section(console, "leaderboard")
    console.print(leaderboard(stored.race, stored.configurations, blend, LEADERBOARD_ROWS))
    if explain:
        _section(console, "what each member adds")
        console.print(members_view(blend))
    _print_ensemble(console, stored, blend, f"the ensemble of {len(blend.members)} members")
    _print_files(console, stored)
    _print_written(console, written)
    _next_is_export(console, stored)


def print_gathered(console: Console, blended: Blended, *, explain: bool = False) -> None:
    """Members from anywhere with their weights, and the honest score."""
    for note in blended.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False, soft_wrap=True)
    blend = blended.blend
    _section(console, "members" if not explain else "what each member adds")
    console.print(members_view(blend, explain=explain))
    _section(console, f"the ensemble of {len(blend.members)} members")
    console.print(blend_view(blend))
    _print_optimistic(console, len(blended.optimistic), len(blend.members))
    _section(console, "where everything lies")
    _print_written(console, blended.written)


def _print_written(console: Console, written: Written) -> None:
    for path, what in written:
        console.print(f"  {escape(path):<22} {what}", highlight=False, soft_wrap=True)


def print_bundle(console: Console, bundle: Bundle, output: Path) -> None:
    """What was exported, and how to predict with it."""
    console.print(
        f"{len(bundle.members)} members, {sum(len(one.folds) for one in bundle.members)} models, "
        f"{bundle.size_bytes(output) / 1e6:.1f} MB -> {escape(str(output))}",
        highlight=False,
    )
    for note in bundle.provenance.get("notes", ()):
        console.print(f"[yellow]* {escape(note)}[/yellow]", highlight=False, soft_wrap=True)
    _next(console, "predict", str(output), "IMAGES", "-o", "submission.csv")


def print_decisions(console: Console, stored: StoredRun) -> None:
    """Every decision of the race in order, with its time and why."""
    for record, decision in decisions_of(stored.records):
        line = f"{stamp(record)} {describe_decision(decision)}"
        console.print(escape(line), highlight=False, soft_wrap=True)


def _print_race(console: Console, stored: StoredRun, blend: Blend | None) -> None:
    _section(console, shown(stored.directory.root))
    console.print(race_view(stored.race, slots=None, elapsed=stored.seconds(time.time())))
    if stored.race.entrants:
        _section(console, "leaderboard")
        console.print(leaderboard(stored.race, stored.configurations, blend, LEADERBOARD_ROWS))


def _print_ensemble(console: Console, stored: StoredRun, blend: Blend, title: str) -> None:
    _section(console, title)
    console.print(blend_view(blend))
    optimistic = [
        one.config_id
        for one in blend.members
        if is_optimistic(stored.configurations.get(one.config_id, {}))
    ]
    _print_optimistic(console, len(optimistic), len(blend.members))
    for note in stored.raw.get("notes", ()):
        console.print(f"[yellow]* {escape(note)}[/yellow]", highlight=False, soft_wrap=True)


def _print_optimistic(console: Console, optimistic: int, members: int) -> None:
    if optimistic:
        console.print(
            f"[yellow]* {optimistic} of {members} members kept the epoch that was "
            "best on their validation fold: these scores are optimistic[/yellow]",
            highlight=False,
            soft_wrap=True,
        )


def _print_files(console: Console, stored: StoredRun) -> None:
    directory = stored.directory
    _section(console, "where everything lies")
    for name, what in (
        ("oof", "out-of-fold probabilities, Parquet"),
        ("weights", "models, safetensors"),
        ("fold_runs.parquet", "every fold run, and why it ended"),
        ("blend.json", "weights, temperatures, scores"),
        ("blend_oof.parquet", "the ensemble's nested predictions"),
        ("analysis", "confusions, agreement, suspicious labels: Parquet"),
        ("report.html", "the page that shows why"),
        ("submission.csv", "predictions for the test images"),
        ("dropped.csv", "images that were left out"),
        ("search.log", "every decision with its time"),
    ):
        place = directory.root / name
        if place.exists():
            console.print(f"  {name:<22}{what}", highlight=False)


def _section(console: Console, title: str) -> None:
    console.print()
    console.print(f"[bold]{escape(title)}[/bold]", highlight=False, soft_wrap=True)


def _next_is_export(console: Console, stored: StoredRun) -> None:
    """The bundle goes beside a local run, and into the working directory for a remote one."""
    root = stored.directory.root
    beside = shown(root) if root.is_local else root.name
    _next(console, "export", shown(root), "-o", f"{beside}-bundle")


def _next(console: Console, *arguments: str) -> None:
    command = shlex.join(["foldblend", *arguments])
    console.print()
    console.print(f"next: [bold]{escape(command)}[/bold]", highlight=False, soft_wrap=True)
