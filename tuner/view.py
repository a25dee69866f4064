"""Tables for a terminal. Everything here takes numbers and gives Rich renderables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ensemble.blend_value import Blend, BlendMember, Score
from tuner.race import Race
from tuner.standings import ConfigurationRow, Totals, backbone_rows, configuration_rows, totals

OPTIMISTIC = "* the epoch was chosen on the validation fold (keep: best or patience): optimistic"

_STATE_STYLE = {
    "member": "bold green",
    "promoted": "green",
    "running": "cyan",
    "pruned": "yellow",
    "stopped": "yellow",
    "failed": "bold red",
}


def race_view(race: Race, *, slots: int | None, elapsed: float | None) -> RenderableType:
    """The live picture: a row per backbone, then the whole."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("backbone", no_wrap=True)
    for name in ("tried", "running", "pruned", "promoted", "members", "failed"):
        table.add_column(name, justify="right")
    table.add_column(f"best {race.rules.metric}", justify="right")
    rows = backbone_rows(race)
    names = short_names(row.backbone for row in rows)
    for row in rows:
        table.add_row(
            Text(names[row.backbone]),
            str(row.proposed),
            _count(row.running, "cyan"),
            _count(row.pruned, "yellow"),
            _count(row.promoted, "green"),
            _count(row.members, "bold green"),
            _count(row.failed, "bold red"),
            number(row.best),
        )
    return Group(table, _totals_line(totals(race, slots), elapsed))


def leaderboard(
    race: Race,
    configurations: Mapping[str, Mapping[str, Any]],
    blend: Blend | None = None,
    limit: int | None = None,
) -> RenderableType:
    """Every configuration, best first, with what became of it and why."""
    rows = configuration_rows(race, configurations)
    weights = {one.config_id: one.weight for one in blend.members} if blend else {}
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name, justify in (
        ("configuration", "left"),
        ("backbone", "left"),
        ("state", "left"),
        ("mean", "right"),
        ("probe", "right"),
        ("folds", "right"),
        ("weight", "right"),
        ("why", "left"),
    ):
        table.add_column(name, justify=justify, no_wrap=name != "why")  # type: ignore[arg-type]
    names = short_names(row.backbone for row in rows)
    for row in rows[:limit]:
        weight = weights.get(row.config_id)
        table.add_row(*_leaderboard_cells(row, names[row.backbone], weight))
    metric = race.rules.metric
    notes = [Text(f"mean: {metric} over the finished folds; probe: on the probe fold", "dim")]
    if any(_is_marked(row) for row in rows[:limit]):
        notes.append(Text(OPTIMISTIC))
    if limit is not None and len(rows) > limit:
        notes.append(Text(f"(+{len(rows) - limit} more in fold_runs.parquet)"))
    return Group(table, *notes)


def blend_view(blend: Blend) -> RenderableType:
    """The ensemble against its best member, the honest score first. Where nothing was selected on
    a probe fold, there is no score without it."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    names = ["", f"nested {blend.metric}", f"{blend.confidence * 100:g} % interval"]
    if blend.has_probe_fold:
        names.append("without probe fold")
    for name in names:
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for label, score in (
        ("ensemble", blend.nested.blend),
        ("best single", blend.nested.best_single),
    ):
        cells = [number(score.value), _interval(score) or "-"]
        if blend.has_probe_fold:
            cells.append(_with_interval(score.without_probe_fold))
        table.add_row(Text(label, style="bold" if label == "ensemble" else ""), *cells)
    return Group(table, Text(_difference(blend)), Text(_method(blend), style="dim"))


def members_view(blend: Blend, *, explain: bool = True) -> RenderableType:
    """Every member with its weight; with `explain` what it adds: the blend's score without it, how
    stable its weight is, and the share of rows that it alone gets right."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("member", no_wrap=True)
    names = [f"{blend.metric}", "temperature", "weight"]
    if explain:
        names += ["5 to 95 % of refits", "used", f"{blend.metric} without it", "only it is right"]
    for name in names:
        table.add_column(name, justify="right")
    for member in blend.members:
        cells = [number(member.score), f"{member.temperature:.2f}", f"{member.weight:.3f}"]
        if explain:
            cells += _explained(member)
        table.add_row(Text(member.config_id), *cells)
    if not explain:
        return table
    notes = Text(
        "without it: the same method fitted again, nested; refits: on resampled rows", style="dim"
    )
    return Group(table, notes)


def _explained(member: BlendMember) -> list[str]:
    stable = member.stability
    return [
        "-" if stable is None else f"{stable.low:.3f} to {stable.high:.3f}",
        "-" if stable is None else f"{stable.used * 100:.0f} %",
        number(member.without),
        "-" if member.only_right is None else f"{member.only_right * 100:.2f} %",
    ]


def short(backbone: str) -> str:
    """A timm name without its tag of weights and without the hub's prefix."""
    return _last_part(backbone).split(".")[0]


def short_names(backbones: Iterable[str]) -> dict[str, str]:
    """Each name as short as it can be told from the others."""
    wanted = set(backbones)
    by_short = Counter(short(one) for one in wanted)
    by_tag = Counter(_last_part(one) for one in wanted)
    names = {}
    for one in wanted:
        tagged = _last_part(one) if by_tag[_last_part(one)] == 1 else one
        names[one] = short(one) if by_short[short(one)] == 1 else tagged
    return names


def number(value: float | None) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:.4f}"


def duration(seconds: float | None) -> str:
    """Seconds as 42 s, 3 min 05 s or 2 h 10 min."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def problems_view(rows: Sequence[tuple[str, str, str]]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("problem", "where", "detail"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # as text: a "[" in a path is no markup
    return table


def _last_part(backbone: str) -> str:
    return backbone.rstrip("/").split("/")[-1]


def _is_marked(row: ConfigurationRow) -> bool:
    return row.optimistic and row.score is not None


def _leaderboard_cells(
    row: ConfigurationRow, backbone: str, weight: float | None
) -> tuple[str | Text, ...]:
    mark = "*" if _is_marked(row) else ""
    return (
        row.config_id,
        Text(backbone),
        Text(row.state, style=_STATE_STYLE.get(row.state, "")),
        number(row.score) + mark,
        number(row.probe) + mark,
        f"{row.folds_done}/{row.n_folds}",
        "" if weight is None else f"{weight:.3f}",
        Text(row.why),
    )


def _totals_line(sums: Totals, elapsed: float | None) -> RenderableType:
    of_configurations = _of(sums.configurations, sums.configurations_planned)
    of_epochs = _of(sums.fold_epochs, sums.fold_epochs_planned)
    text = (
        f"configurations {of_configurations} · fold-epochs {of_epochs} · "
        f"members {sums.members} of {sums.members_wanted}"
    )
    if sums.failures:
        text += f" · failures {sums.failures}"
    if elapsed is not None:
        text += f" · {duration(elapsed)}"
        if sums.running and sums.seconds_left is not None:
            text += f", about {duration(sums.seconds_left)} left"
    if not sums.fold_epochs_planned:
        return Text(text)
    bar = ProgressBar(total=sums.fold_epochs_planned, completed=sums.fold_epochs, width=24)
    grid = Table.grid(padding=(0, 1))
    grid.add_row(bar, Text(text))
    return grid


def _of(done: int, planned: int | None) -> str:
    return str(done) if planned is None else f"{done} of {planned}"


def _count(value: int, style: str) -> Text:
    return Text(str(value), style=style if value else "dim")


def _interval(score: Score) -> str:
    """Empty where no resamples were asked for."""
    if score.low is None or score.high is None:
        return ""
    return f"{number(score.low)} to {number(score.high)}"


def _with_interval(score: Score) -> str:
    interval = _interval(score)
    return number(score.value) + (f" ({interval})" if interval else "")


def _difference(blend: Blend) -> str:
    gap = blend.nested.difference
    if gap.low is None or gap.high is None:
        return f"ensemble minus best single: {gap.value:+.4f}"
    sure = "" if gap.low <= 0.0 <= gap.high else ", more than chance explains"
    return f"ensemble minus best single: {gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f}{sure})"


def _method(blend: Blend) -> str:
    tried = ", ".join(f"{one.name} {one.nested:.4f}" for one in blend.methods)
    lines = [
        f"weights by {blend.choice or blend.method} (nested {blend.metric}: {tried})",
        f"in-sample {blend.in_sample:.4f}; {blend.n_rows} rows, {blend.n_folds} folds",
    ]
    if len(blend.stages) > 1:
        steps = ", ".join(f"{one.name} {one.nested:.4f}" for one in blend.stages)
        lines.append(f"nested {blend.metric} as it is built: {steps}")
    if blend.rules:
        lines.append(
            f"rules touch {blend.rules.rows} labelled rows and earned a trust of "
            f"{blend.rules.trust:.2f}"
        )
    if blend.metric != "log_loss" and "log_loss" in blend.metrics.get("blend", {}):
        lines.append(
            f"chosen for {blend.metric}: its log loss is {blend.metrics['blend']['log_loss']:.4f}, "
            f"the best single member's {blend.metrics['best_single']['log_loss']:.4f}"
        )
    return "\n".join(lines)
