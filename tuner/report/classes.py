"""Class by class: what is taken for what, who knows which class best, which two may be one."""

from __future__ import annotations

import math
from collections import defaultdict

from tuner.report import numbers as n
from tuner.report.blocks import Block, Column, Figure, Section, Table, missing
from tuner.report.charts import Pair, pairs
from tuner.report.charts_heat import heat_map
from tuner.report.data import ReportData
from tuner.report.evidence import BLEND, Row

MAX_HEAT_CLASSES = 30
CONFUSED_SHOWN, CONFUSED_LISTED = 12, 60
RECALL_DRAWN, RECALL_LISTED = 20, 300
MERGEABLE_LISTED = 40


def confusion(data: ReportData) -> Section:
    title = "Confusion"
    cells, confused = data.evidence.rows("confusion"), data.evidence.rows("confused_pairs", BLEND)
    classes = _classes(data, cells)
    blocks: list[Block] = []
    if cells and len(classes) <= MAX_HEAT_CLASSES:
        blocks.append(_heat(cells, classes))
    if confused:
        blocks.append(_confused(confused))
    return Section(
        "confusion", title, tuple(blocks) or missing(data.evidence.why_missing("confusion"))
    )


def per_class(data: ReportData) -> Section:
    """Recall of the ensemble, worst first, against the member that knows the class best."""
    title = "Class by class"
    rows = [row for row in data.evidence.rows("per_class", BLEND) if row["recall"] is not None]
    if not rows:
        return Section("classes", title, missing(data.evidence.why_missing("per_class")))
    best = {row["class"]: row for row in data.evidence.rows("best_member")}
    rows.sort(key=lambda row: (row["recall"], -row["rows"], row["class"]))
    blocks: list[Block] = [_recall_chart(rows[:RECALL_DRAWN], best, len(rows))]
    if len(rows) > RECALL_DRAWN:
        blocks.append(_recall_table(rows, best))
    return Section("classes", title, tuple(blocks))


def mergeable(data: ReportData) -> Section:
    title = "Classes that should perhaps be one"
    rows = data.evidence.rows("mergeable")[:MERGEABLE_LISTED]
    if not rows:
        return Section("mergeable", title, missing(data.evidence.why_missing("mergeable")))
    columns = (
        Column("class", "text"),
        Column("class", "text"),
        Column("rows", wide=True),
        Column("first taken for second"),
        Column("second for first"),
        Column("AUC between them"),
    )
    table = Table(
        "Pairs of classes by how much they are taken for each other",
        columns,
        tuple(
            (
                row["class_a"],
                row["class_b"],
                f"{n.count(row['rows_a'])} + {n.count(row['rows_b'])}",
                n.share(row["a_as_b"]),
                n.share(row["b_as_a"]),
                n.NOTHING if row["auc"] is None else f"{row['auc']:.3f}",
            )
            for row in rows
        ),
        shown=10,
        reading="AUC: how well the ensemble tells the two apart; 0.5 is a coin, 1 is always. Low "
        "AUC and confusion both ways: look at the images, the labels may mean the same.",
    )
    return Section("mergeable", title, (table,))


def _classes(data: ReportData, cells: list[Row]) -> tuple[str, ...]:
    """In the order of the blend, which is that of the labels."""
    found = {row[key] for row in cells for key in ("true_class", "predicted_class")}
    known = data.blend.classes if data.blend else ()
    return (*known, *sorted(found - set(known)))


def _heat(cells: list[Row], classes: tuple[str, ...]) -> Figure:
    counts: dict[tuple[str, str], int] = {
        (row["true_class"], row["predicted_class"]): row["count"] for row in cells
    }
    totals: dict[str, int] = defaultdict(int)
    for (true, _), number in counts.items():
        totals[true] += number
    values = [
        [
            counts.get((true, taken), 0) / totals[true] if totals[true] else math.nan
            for taken in classes
        ]
        for true in classes
    ]
    texts = [[_percent(value) for value in row] for row in values]
    chart = heat_map(
        classes,
        classes,
        values,
        texts,
        label="Confusion matrix of the ensemble, shares of each true class in percent",
        row_title="true",
        column_title="taken for",
    )
    reading = (
        "Each row is a true class, in percent of its images; the framed diagonal is what was "
        "right. Strong cells beside it are the confusions worth looking at."
    )
    return Figure(chart, reading)


def _percent(value: float) -> str:
    if math.isnan(value) or value == 0:
        return ""
    return f"{100 * value:.0f}" if value >= 0.005 else "·"


def _confused(rows: list[Row]) -> Table:
    columns = (
        Column("true class", "text"),
        Column("taken for", "text"),
        Column("images"),
        Column("of the true class"),
    )
    cells = tuple(
        (row["true_class"], row["predicted_class"], n.count(row["count"]), n.share(row["share"], 1))
        for row in rows[:CONFUSED_LISTED]
    )
    reading = "The ensemble's most frequent mistakes, on rows that its weights were not fitted on."
    return Table("Most confused pairs", columns, cells, shown=CONFUSED_SHOWN, reading=reading)


def _recall_chart(rows: list[Row], best: dict[str, Row], total: int) -> Figure:
    drawn = [
        Pair(row["class"], row["recall"], _best_recall(row, best), _recall_text(row, best))
        for row in rows
    ]
    which = f"the {len(rows)} worst of {total} classes" if total > len(rows) else "worst first"
    reading = (
        f"Recall, {which}. Filled dot: the ensemble; hollow diamond: the member that knows this "
        "class best. A diamond to the right of the dot is knowledge that the ensemble does not use."
    )
    return Figure(pairs(drawn, "Recall of each class, ensemble and best member"), reading)


def _recall_table(rows: list[Row], best: dict[str, Row]) -> Table:
    columns = (
        Column("class", "text"),
        Column("images"),
        Column("recall"),
        Column("precision"),
        Column("F1"),
        Column("best member's recall"),
        Column("best member", "text", wide=True),
    )
    cells = tuple(
        (
            row["class"],
            n.count(row["rows"]),
            n.share(row["recall"]),
            n.share(row["precision"]),
            n.share(row["f1"]),
            n.share(_best_recall(row, best)),
            best[row["class"]]["member"] if row["class"] in best else "",
        )
        for row in rows[:RECALL_LISTED]
    )
    reading = ""
    if len(rows) > RECALL_LISTED:
        reading = f"{len(rows) - RECALL_LISTED} better classes are in analysis/per_class.parquet."
    return Table("All classes, worst first", columns, cells, shown=0, reading=reading)


def _best_recall(row: Row, best: dict[str, Row]) -> float | None:
    found = best.get(row["class"])
    return None if found is None else found["recall"]


def _recall_text(row: Row, best: dict[str, Row]) -> str:
    other = _best_recall(row, best)
    text = n.share(row["recall"])
    if other is not None:
        text += f" · best {n.share(other)}"
    return f"{text} · {n.counted(row['rows'], 'image')}"
