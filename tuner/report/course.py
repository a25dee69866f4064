"""How the search went: learning curves with what was decided on them, and what it all cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from tuner.report import numbers as n
from tuner.report.blocks import Block, Column, Figure, Paragraph, Section, Table, missing
from tuner.report.charts import Part, Scale, glyph, legend, scale_of, stacked, swatch
from tuner.report.charts_lines import Axes, Line, Mark, plot
from tuner.report.curves import PROMOTED, Curve, Happening, by_backbone, is_promoted
from tuner.report.data import ReportData
from tuner.report.scores import words
from tuner.report.spending import OUTCOMES, Spending
from tuner.view import duration

MAX_CHARTS = 24
MAX_LINES = 500  # in all charts; in each, what came furthest is drawn
LOG_FROM = 10.0
TAIL = 0.1  # of all values, on the bad side, may lie beyond the axis: first epochs are often wild

_MARKS = {
    "member": "a fold of a member, finished",
    PROMOTED: "promoted",
    "finished": "finished, not promoted",
    "pruned": "pruned",
    "stopped": "stopped",
    "failed": "failed",
    "retried": "failed and tried again",
    "running": "still running",
}


def learning_curves(data: ReportData) -> Section:
    title = "Learning curves"
    drawn = [curve for curve in data.curves if curve.epochs]
    if not drawn:
        return Section("curves", title, missing("No fold run has finished an epoch yet."))
    values = [value for curve in drawn for value in curve.values if math.isfinite(value)]
    y = value_scale(values, higher_is_better=data.higher_is_better)
    x = Scale(1.0, float(max(2, max(curve.epochs[-1] for curve in drawn))))
    axes = Axes(x, y, "epoch", words(data.metric))
    groups = by_backbone(drawn)
    charts = Markup("").join(
        _chart(data.names.get(name, name), curves, axes, MAX_LINES // min(len(groups), MAX_CHARTS))
        for name, curves in list(groups.items())[:MAX_CHARTS]
    )
    markup = Markup('{}<div class="multiples">{}</div>').format(_legend(drawn), charts)
    return Section(
        "curves", title, (Figure(markup, _reading(data, y, values)), *_notes(data, len(groups)))
    )


def value_scale(values: Sequence[float], *, higher_is_better: bool) -> Scale:
    """From the best value to where all but the worst tenth lie; losses over more than a power of
    ten go on a logarithmic axis, whole."""
    if not values:
        return Scale(0.0, 1.0)
    if not higher_is_better and 0 < LOG_FROM * min(values) < max(values):
        return Scale(min(values) / 1.15, max(values) * 1.15, log=True)
    ranked = sorted(values, reverse=higher_is_better)
    edge = ranked[min(len(ranked) - 1, math.ceil((1.0 - TAIL) * len(ranked)) - 1)]
    return scale_of([ranked[0], edge])


def spending(data: ReportData) -> Section:
    title = "What was spent where"
    spent = data.spending
    if not spent.cells:
        return Section("spending", title, missing("Nothing was spent yet."))
    return Section(
        "spending",
        title,
        (
            Paragraph(_spent_sentence(data), "lead"),
            Figure(
                _spending_chart(data, spent),
                "Length: seconds of training. What ended in members is the ensemble's price; the "
                "rest is the price of finding it. Hatching and colour both tell the outcome.",
            ),
            _spending_table(data, spent),
        ),
    )


# --- curves -------------------------------------------------------------------------------------


def _chart(name: str, curves: Sequence[Curve], axes: Axes, most: int) -> Markup:
    shown = curves[-most:]
    lines = [
        Line(
            tuple(zip(map(float, curve.epochs), curve.values, strict=True)),
            _style(curve),
            f"{curve.config_id} fold {curve.fold}: {curve.end}",
        )
        for curve in shown
    ]
    marks = [mark for curve in shown for one in curve.happenings for mark in _marks(curve, one)]
    marks.sort(key=lambda mark: mark.word == PROMOTED)  # on top: it shares its place with others
    tried = len({curve.config_id for curve in curves})
    kept = len({curve.config_id for curve in curves if curve.member})
    label = f"{name}: {n.counted(len(curves), 'fold run')} over the epochs, {kept} became members"
    left_out = (
        f", {len(curves) - len(shown)} fold runs not drawn" if len(shown) < len(curves) else ""
    )
    return Markup(
        '<div class="multiple"><h4>{}</h4><p class="small">{} tried, {}{}</p>{}</div>'
    ).format(name, tried, n.counted(kept, "member"), left_out, plot(axes, lines, marks, label))


def _style(curve: Curve) -> str:
    if curve.member:
        return "l-member" if curve.is_probe else "l-member l-fold"
    return f"l-{curve.end}"


def _marks(curve: Curve, one: Happening) -> list[Mark]:
    if one.value is None:
        return []  # before the first epoch there is no place on the curve; the text counts these
    word = one.word
    if word == "finished":
        if curve.is_probe and is_promoted(curve):
            return []  # the promotion stands at the same place
        word = "member" if curve.member else "finished"
    return [
        Mark(word, one.epoch, one.value, f"{curve.config_id} fold {curve.fold} {word}: {one.why}")
    ]


def _legend(curves: Sequence[Curve]) -> Markup:
    seen = {
        mark.word for curve in curves for one in curve.happenings for mark in _marks(curve, one)
    }
    return legend((glyph(word), text) for word, text in _MARKS.items() if word in seen)


def _reading(data: ReportData, y: Scale, values: Sequence[float]) -> str:
    better = "Up" if data.higher_is_better else "Down"
    text = (
        f"One line a fold run, the {words(data.metric)} on its held-out fold after every epoch; "
        f"{better.lower()} is better. Thick: the probe fold of members; thin: their other folds. "
        "All charts share their axes, so backbones can be compared by eye."
    )
    if y.log:
        text += " The vertical axis is logarithmic."
    outside = sum(not y.low <= value <= y.high for value in values)
    if outside:
        text += f" {n.counted(outside, 'value')} beyond the axis: cut off at its edge."
    return text


def _notes(data: ReportData, backbones: int) -> tuple[Block, ...]:
    notes: list[Block] = []
    never = [curve for curve in data.curves if not curve.epochs and curve.end == "failed"]
    if never:
        names = [f"{curve.config_id} fold {curve.fold}" for curve in never]
        text = f"Failed before the first epoch, so without a curve: {n.listed(names)}."
        notes.append(Paragraph(text, "warning"))
    diverged = {
        curve.config_id
        for curve in data.curves
        if any(not math.isfinite(value) for value in curve.values)
    }
    if diverged:
        text = f"Values that are no numbers break the lines of {n.listed(sorted(diverged))}."
        notes.append(Paragraph(text, "warning"))
    if backbones > MAX_CHARTS:
        text = f"{backbones - MAX_CHARTS} more backbones are not drawn; fold_runs.parquet has them."
        notes.append(Paragraph(text))
    return tuple(notes)


# --- spending -----------------------------------------------------------------------------------


def _spent_sentence(data: ReportData) -> str:
    spent = data.spending
    text = (
        f"{n.count(spent.fold_epochs)} fold-epochs took {duration(spent.seconds)} of training in "
        f"{duration(spent.wall_seconds)} of wall clock, with {spent.most_at_once} fold "
        f"run{'' if spent.most_at_once == 1 else 's'} at once at most."
    )
    if spent.spared:
        text += f" Pruning spared {n.count(spent.spared)} fold-epochs."
    if spent.resumed:
        text += f" The search was resumed {n.counted(spent.resumed, 'time')}."
    return text


def _spending_chart(data: ReportData, spent: Spending) -> Markup:
    rows = []
    for name in spent.backbones:
        cells = {cell.outcome: cell for cell in spent.of(backbone=name)}
        parts = [
            Part(
                outcome.replace(" ", "-"),
                cells[outcome].seconds,
                f"{OUTCOMES[outcome]}: {duration(cells[outcome].seconds)}",
            )
            for outcome in OUTCOMES
            if outcome in cells
        ]
        total = sum(cell.seconds for cell in cells.values())
        rows.append((data.names.get(name, name), parts, duration(total)))
    used = {cell.outcome for cell in spent.cells}
    entries = [
        (swatch(one.replace(" ", "-")), text) for one, text in OUTCOMES.items() if one in used
    ]
    return Markup("{}{}").format(legend(entries), stacked(rows, "Seconds by backbone and outcome"))


def _spending_table(data: ReportData, spent: Spending) -> Table:
    rows = []
    for name in spent.backbones:
        for outcome in OUTCOMES:
            for cell in spent.of(backbone=name, outcome=outcome):
                part = cell.seconds / spent.seconds if spent.seconds else math.nan
                rows.append(
                    (
                        data.names.get(name, name),
                        outcome,
                        n.count(cell.fold_epochs),
                        duration(cell.seconds),
                        n.share(part),
                    )
                )
    columns = (
        Column("backbone", "text"),
        Column("outcome", "text"),
        Column("fold-epochs"),
        Column("training"),
        Column("share"),
    )
    return Table("Spending by backbone and outcome", columns, tuple(rows))
