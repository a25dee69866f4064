"""Who is in the ensemble and how sure that is, and what became of everybody else."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from ensemble.blend_value import Blend, BlendMember
from tuner.report import numbers as n
from tuner.report.blocks import Block, Column, Paragraph, Section, Table, Text, missing
from tuner.report.charts import glyph, weight_bar
from tuner.report.data import ReportData
from tuner.report.scores import words
from tuner.standings import ConfigurationRow

MAX_CONFIGURATIONS = 300  # rows of the leaderboard; the table of fold runs has all
MAX_WHY = 160  # characters of a reason; the journal has the whole


def members(data: ReportData) -> Section:
    title = "Members and weights"
    if data.blend is None:
        return Section("members", title, missing("Without a blend nobody has a weight yet."))
    blend = data.blend
    used, refits = sum(one.weight > 0 for one in blend.members), _refits(blend)
    lead = (
        f"{n.counted(used, 'configuration')} of {len(blend.members)} offered "
        f"{'has' if used == 1 else 'have'} weight."
    )
    blocks: list[Block] = [Paragraph(lead, "lead"), _member_table(data, blend)]
    if not refits:
        text = "How stable these weights are was not measured (no refits, or nothing to fit)."
        blocks.append(Paragraph(text, "empty"))
    return Section("members", title, tuple(blocks))


def leaderboard(data: ReportData) -> Section:
    title = "All configurations"
    if not data.rows:
        return Section("leaderboard", title, missing("Nothing was proposed yet."))
    weights = {one.config_id: one.weight for one in data.blend.members} if data.blend else {}
    rows = tuple(
        _configuration_row(place, row, data, weights)
        for place, row in enumerate(data.rows[:MAX_CONFIGURATIONS], 1)
    )
    metric = words(data.metric)
    columns = (
        Column("#"),
        Column("configuration", "text"),
        Column("backbone", "text"),
        Column("became", "text"),
        Column(f"mean {metric}"),
        Column("probe fold"),
        Column("folds"),
        Column("weight"),
        Column("searched values", "prose", wide=True),
        Column("why", "prose"),
    )
    reading = (
        f"Mean: {metric} over the finished folds; probe fold: the last value on fold 0. "
        "Members first, then by how far a configuration came and how well it did there."
    )
    if any(_is_marked(row) for row in data.rows):
        reading += (
            " * the epoch was chosen on the validation fold (keep: best or patience): optimistic."
        )
    if len(data.rows) > MAX_CONFIGURATIONS:
        reading += f" {len(data.rows) - MAX_CONFIGURATIONS} more are in fold_runs.parquet."
    strong = frozenset(at for at, row in enumerate(data.rows) if weights.get(row.config_id, 0) > 0)
    table = Table("Leaderboard", columns, rows, shown=12, reading=reading, strong=strong)
    return Section("leaderboard", title, (table, *_failures(data)))


def _refits(blend: Blend) -> int:
    return max((one.stability.refits for one in blend.members if one.stability), default=0)


def _member_table(data: ReportData, blend: Blend) -> Table:
    whiskers = [one.stability.high for one in blend.members if one.stability]
    highest = max([one.weight for one in blend.members] + whiskers)
    metric, refits = words(blend.metric), _refits(blend)
    columns = (
        Column("member", "text"),
        Column("weight"),
        Column("", "text"),
        Column("backbone", "text"),
        *((Column("range over refits", wide=True), Column("used in")) if refits else ()),
        Column("temperature"),
        Column(f"alone ({metric})"),
        Column("nested score without it"),
        Column("only it is right"),
    )
    rows = tuple(_member_row(one, data, highest, refits) for one in blend.members)
    reading = (
        f"Without it: the nested {metric} of the same method refitted without this member, against "
        f"{n.score(_reference(blend))} with all. Only it is right: share of rows that every other "
        "member gets wrong. A temperature above 1 softens a member that was too sure."
    )
    if refits:
        reading = (
            f"Bar: weight; line: 5th to 95th percentile of the weight over {refits} refits. A line "
            "that reaches 0 means the member could be another on other rows. " + reading
        )
    return Table("Members", columns, rows, shown=20, reading=reading)


def _reference(blend: Blend) -> float:
    """What a score without one member is to be compared with: the same method with all."""
    return next(
        (one.nested for one in blend.methods if one.name == blend.method), blend.score.value
    )


def _member_row(
    one: BlendMember, data: ReportData, highest: float, refits: int
) -> tuple[Text, ...]:
    stable = one.stability
    low, high = (stable.low, stable.high) if stable else (None, None)
    refitted: tuple[Text, ...] = ()
    if refits:
        between = f"{n.weight(stable.low)} to {n.weight(stable.high)}" if stable else n.NOTHING
        refitted = (between, n.share(stable.used) if stable else n.NOTHING)
    return (
        Markup("<code>{}</code>").format(one.config_id),
        n.weight(one.weight),
        weight_bar(one.weight, low, high, highest),
        data.backbone(one.config_id) or n.NOTHING,
        *refitted,
        f"{one.temperature:.2f}",
        n.score(one.score),
        n.score(one.without),
        n.share(one.only_right, 1),
    )


def _configuration_row(
    place: int, row: ConfigurationRow, data: ReportData, weights: Mapping[str, float]
) -> tuple[Text, ...]:
    star = "*" if _is_marked(row) else ""
    return (
        str(place),
        Markup("<code>{}</code>").format(row.config_id),
        data.names.get(row.backbone, row.backbone),
        Markup('<span class="one">{} {}</span>').format(glyph(row.state), row.state),
        n.score(row.score) + (star if row.score is not None else ""),
        n.score(row.probe) + (star if row.probe is not None else ""),
        f"{row.folds_done}/{row.n_folds}",
        n.weight(weights[row.config_id]) if row.config_id in weights else "",
        _values(data.searched.get(row.config_id, {})),
        _cut(row.why),
    )


def _values(params: Mapping[str, object]) -> str:
    """What the sampler chose, less the backbone, which has its own column. Optuna's names hold the
    range in brackets; of `optimizer.lr` the last part says enough."""
    shown = [
        f"{key.split(' [')[0].rpartition('.')[2]} {_value(value)}"
        for key, value in params.items()
        if key != "backbone"
    ]
    return _cut(", ".join(shown))


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_WHY else f"{line[: MAX_WHY - 1]}…"


def _is_marked(row: ConfigurationRow) -> bool:
    return row.optimistic and row.score is not None


def _failures(data: ReportData) -> tuple[Table, ...]:
    """Nobody vanishes: every fold run that failed for good, with its error."""
    if not data.failures:
        return ()
    columns = (
        Column("configuration", "text"),
        Column("fold"),
        Column("epochs done"),
        Column("tries"),
        Column("error", "prose"),
    )
    rows = tuple(
        (
            Markup("{} <code>{}</code>").format(glyph("failed"), one.config_id),
            str(one.fold),
            str(one.epoch),
            str(one.failures),
            _cut(one.error),
        )
        for one in data.failures[:MAX_CONFIGURATIONS]
    )
    reading = "Tracebacks are in search.log. A failed configuration takes no part in the blend."
    return (Table("Fold runs that failed", columns, rows, shown=6, reading=reading),)
