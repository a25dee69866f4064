"""What `foldblend show` prints: the run as it was resolved, what is searched and what is fixed."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from rich.console import RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from search_spaces.conditions import SpaceRow
from search_spaces.space import Study


def render(study: Study) -> tuple[RenderableType, ...]:
    """What a `rich` console prints, in order: the run, the search space, the fixed values."""
    searched, fixed = study.space.rows(), study.space.fixed_rows()
    nothing = Text("Nothing is searched: every configuration is the same.", style="yellow")
    return (
        _heading(f"Run {study.run.name}", "fixed for all configurations"),
        Syntax(run_text(study), "yaml", theme="ansi_dark", background_color="default"),
        _heading("Searched", f"fingerprint {study.space.fingerprint()}"),
        _table(searched, "range or choices") if searched else nothing,
        _heading("Configuration", "what is not searched"),
        _table(fixed, "value"),
    )


def run_text(study: Study) -> str:
    """The run's fixed configuration as YAML, keys in the order of the type; keys that are null are
    left out, but for the budget, where null means no bound; of `replay` only what it changes."""
    values = study.run.model_dump(mode="json")
    values["replay"] = study.run.replay.model_dump(mode="json", exclude_defaults=True)
    values["data"] = {key: value for key, value in values["data"].items() if value is not None}
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=96)
    return text.rstrip()


def _heading(title: str, remark: str) -> Text:
    return Text.assemble("\n", (title, "bold"), f"  ({remark})")


def _table(rows: Sequence[SpaceRow], what: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("key", no_wrap=True)
    table.add_column(what, overflow="fold")
    with_conditions = any(row.condition for row in rows)
    if with_conditions:
        table.add_column("holds when", overflow="fold")
    for row in rows:
        # Text, not markup: a description or a value may hold square brackets.
        cells = [row.key, row.description, *([row.condition or "always"] * with_conditions)]
        table.add_row(*(Text(cell) for cell in cells))
    return table
