"""Can the probabilities be taken at their word, and do members err together?"""

from __future__ import annotations

import math

from markupsafe import Markup

from tuner.report import numbers as n
from tuner.report.blocks import Block, Figure, Paragraph, Section, missing
from tuner.report.charts import Scale, glyph, legend
from tuner.report.charts_heat import heat_map
from tuner.report.charts_lines import Axes, Line, Mark, plot
from tuner.report.data import ReportData
from tuner.report.evidence import BLEND, Row

MAX_MEMBERS = 20  # of the map of correlations; the heaviest are taken


def calibration(data: ReportData) -> Section:
    title = "Calibration"
    after = _filled(data.evidence.rows("reliability", BLEND))
    before = _filled(data.evidence.rows("reliability_before"))
    if not after:
        return Section("calibration", title, missing(data.evidence.why_missing("reliability")))
    entries = [(glyph("member"), "ensemble as it predicts")]
    lines = [
        Line(((0.0, 0.0), (1.0, 1.0)), "l-ideal", "perfect calibration"),
        _line(after, "l-after"),
    ]
    marks = _marks(after, "member")
    if before:
        entries.append((glyph("stopped"), "before its calibration"))
        lines.insert(1, _line(before, "l-before"))
        marks = _marks(before, "stopped") + marks
    axes = Axes(
        Scale(0, 1), Scale(0, 1), "probability given to its decision", "share that was right"
    )
    chart = plot(axes, lines, marks, "Reliability diagram of the ensemble", square=True)
    blocks: list[Block] = [
        Paragraph(_sentence(after, before), "lead"),
        Figure(
            Markup("{}{}").format(legend(entries), chart),
            "On the dashed diagonal a probability of 80 % is right 80 times of 100. Below it the "
            "ensemble is too sure, above it too modest. Points with few rows wander by chance.",
        ),
    ]
    return Section("calibration", title, tuple(blocks))


def calibration_error(rows: list[Row]) -> float:
    """Expected calibration error over these bins (Naeini, Cooper and Hauskrecht 2015)."""
    total = sum(row["rows"] for row in rows)
    if not total:
        return math.nan
    return sum(row["rows"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / total


def correlation(data: ReportData) -> Section:
    title = "Do members err together?"
    rows = data.evidence.rows("agreement")
    if not rows:
        return Section("correlation", title, missing(data.evidence.why_missing("agreement")))
    names = _names(data, rows)
    found = {}
    for row in rows:
        found[row["member_a"], row["member_b"]] = found[row["member_b"], row["member_a"]] = row
    values = [[_correlation(found, a, b) for b in names] for a in names]
    texts = [[_decimal(value) for value in line] for line in values]
    chart = heat_map(
        names,
        names,
        values,
        texts,
        label="Correlation of errors between members",
        row_title="member",
        column_title="member",
    )
    reading = (
        "Correlation of being wrong: 1 means two members fail on the same rows, so the second adds "
        "little; the lower it is, the more a blend of both can gain."
    )
    total = len({row[key] for row in rows for key in ("member_a", "member_b")})
    if total > len(names):
        reading += f" The {len(names)} heaviest of {total} members."
    return Section("correlation", title, (Figure(chart, reading), *_closest(rows)))


def _filled(rows: list[Row]) -> list[Row]:
    kept = [row for row in rows if row["rows"] and row["confidence"] is not None]
    return [row for row in kept if row.get("model", BLEND) == BLEND]


def _line(rows: list[Row], style: str) -> Line:
    return Line(tuple((row["confidence"], row["accuracy"]) for row in rows), style)


def _marks(rows: list[Row], word: str) -> list[Mark]:
    return [
        Mark(
            word,
            row["confidence"],
            row["accuracy"],
            f"{n.counted(row['rows'], 'row')}: probability {n.share(row['confidence'])}, "
            f"right {n.share(row['accuracy'])}",
        )
        for row in rows
    ]


def _sentence(after: list[Row], before: list[Row]) -> str:
    error = n.share(calibration_error(after), 1)
    text = (
        f"The ensemble's probabilities are off by {error} on average (expected calibration error)"
    )
    if before:
        text += f"; before its calibration by {n.share(calibration_error(before), 1)}"
    return f"{text}."


def _names(data: ReportData, rows: list[Row]) -> list[str]:
    present = {row[key] for row in rows for key in ("member_a", "member_b")}
    offered = [one.config_id for one in data.blend.members] if data.blend else []
    known = [name for name in offered if name in present]
    return (known + sorted(present - set(known)))[:MAX_MEMBERS]


def _correlation(found: dict[tuple[str, str], Row], a: str, b: str) -> float:
    if a == b:
        return math.nan
    value = found.get((a, b), {}).get("error_correlation")
    return math.nan if value is None else float(value)


def _decimal(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def _closest(rows: list[Row]) -> tuple[Block, ...]:
    known = [row for row in rows if row["error_correlation"] is not None]
    if not known:
        return ()
    low = min(known, key=lambda row: row["error_correlation"])
    high = max(known, key=lambda row: row["error_correlation"])

    def pair(row: Row) -> str:
        return f"{row['member_a']} and {row['member_b']} ({_decimal(row['error_correlation'])})"

    if low is high:
        text = f"{pair(low)} decide alike on {n.share(low['agreement'])} of the rows."
    else:
        text = f"Most alike: {pair(high)}. Most unlike: {pair(low)}."
    return (Paragraph(text),)
