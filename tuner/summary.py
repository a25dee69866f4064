"""What is printed when a search ends, and by `status` and `blend`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from ensemble.blend_value import Blend, read_blend
from tuner.journal import decisions_of
from tuner.progress import describe
from tuner.replayed import StoredRun
from tuner.view import blend_view, leaderboard, race_view

if TYPE_CHECKING:
    from trainables.bundle import Bundle
    from tuner.study import Outcome

LEADERBOARD_ROWS = 20


def print_summary(console: Console, outcome: Outcome) -> None:
    """Leaderboard, weights, honest score, where everything lies, and the next command."""
    stored = outcome.stored
    root = stored.directory.root
    _print_race(console, stored, outcome.blend)
    if outcome.blend:
        _section(console, "the ensemble")
        console.print(blend_view(outcome.blend))
    _print_files(console, stored)
    if outcome.logs:
        console.print(f"  {'Ray logs':<22}{escape(outcome.logs)}", highlight=False, soft_wrap=True)
    if outcome.stopped or not outcome.blend:
        _next(console, f"foldblend search --resume {root}")
    else:
        _next(console, f"foldblend export {root} -o {root}-bundle")


def print_status(console: Console, stored: StoredRun) -> None:
    blend = read_blend(stored.directory.blend) if stored.directory.blend.exists() else None
    _print_race(console, stored, blend)
    if blend:
        _section(console, "the ensemble (blend.json)")
        console.print(blend_view(blend))
    _print_files(console, stored)


def print_blend(console: Console, stored: StoredRun, blend: Blend) -> None:
    _section(console, f"the ensemble of {len(blend.members)} members")
    console.print(leaderboard(stored.race, stored.configurations, blend, LEADERBOARD_ROWS))
    console.print(blend_view(blend))
    _print_files(console, stored)
    root = stored.directory.root
    _next(console, f"foldblend export {root} -o {root}-bundle")


def print_bundle(console: Console, bundle: Bundle, output: Path) -> None:
    console.print(
        f"{len(bundle.members)} members, {sum(len(one.folds) for one in bundle.members)} models, "
        f"{bundle.size_bytes(output) / 1e6:.1f} MB -> {escape(str(output))}",
        highlight=False,
    )
    _next(console, f"foldblend predict {output} IMAGES -o submission.csv")


def print_decisions(console: Console, stored: StoredRun) -> None:
    for record, decision in decisions_of(stored.records):
        stamp = time.strftime("%H:%M:%S", time.localtime(record.time))
        line = describe(record)[-len(record.decisions) :][record.decisions.index(decision)]
        console.print(f"{stamp} {escape(line)}", highlight=False, soft_wrap=True)


def _print_race(console: Console, stored: StoredRun, blend: Blend | None) -> None:
    _section(console, str(stored.directory.root))
    console.print(race_view(stored.race, slots=None, elapsed=stored.seconds))
    if stored.race.entrants:
        _section(console, "leaderboard")
        console.print(leaderboard(stored.race, stored.configurations, blend, LEADERBOARD_ROWS))


def _print_files(console: Console, stored: StoredRun) -> None:
    directory = stored.directory
    _section(console, "where everything lies")
    for name, what in (
        ("oof", "out-of-fold probabilities, Parquet"),
        ("weights", "models, safetensors"),
        ("fold_runs.parquet", "every fold run, and why it ended"),
        ("blend.json", "weights, temperatures, scores"),
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


def _next(console: Console, command: str) -> None:
    console.print()
    console.print(f"next: [bold]{escape(command)}[/bold]", highlight=False, soft_wrap=True)


