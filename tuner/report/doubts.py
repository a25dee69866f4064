"""Rows to look at: labels that are probably wrong, and twins with different labels."""

from __future__ import annotations

from markupsafe import Markup

from tuner.report import numbers as n
from tuner.report.blocks import Block, Column, Gallery, Paragraph, Picture, Section, Table, missing
from tuner.report.data import SHOWN_DUPLICATES, SHOWN_SUSPECTS, ReportData
from tuner.report.evidence import Row

LISTED = 60


def suspects(data: ReportData) -> Section:
    title = "Suspicious labels"
    rows = data.evidence.rows("suspects")
    if not rows:
        return Section("suspects", title, missing(data.evidence.why_missing("suspects")))
    shown, rest = rows[:SHOWN_SUSPECTS], rows[SHOWN_SUSPECTS : SHOWN_SUSPECTS + LISTED]
    lead = (
        f"{n.counted(len(rows), 'image')} whose given label the ensemble doubts, the most "
        f"suspicious first. Nothing was changed: look, then correct the label file."
    )
    tiles = tuple((_suspect(row, data),) for row in shown)
    blocks: list[Block] = [Paragraph(lead, "lead"), Gallery("Suspicious images", tiles)]
    if rest:
        blocks.append(_rest(rest, len(rows)))
    return Section("suspects", title, tuple(blocks))


def duplicates(data: ReportData) -> Section:
    """Near-duplicates with different labels: one of the two must be wrong."""
    title = "Near-duplicates"
    rows = data.evidence.rows("duplicates")
    if not rows:
        return Section("duplicates", title, missing(data.evidence.why_missing("duplicates")))
    unequal = [row for row in rows if not row["same_label"]]
    lead = (
        f"{n.counted(len(rows), 'pair')} of images look alike; {n.count(len(unequal))} of them "
        f"{'has' if len(unequal) == 1 else 'have'} two different labels."
    )
    blocks: list[Block] = [Paragraph(lead, "lead")]
    if unequal:
        tiles = tuple(
            (
                _picture(row["id_a"], row["label_a"], data),
                _picture(row["id_b"], row["label_b"], data),
            )
            for row in unequal[:SHOWN_DUPLICATES]
        )
        notes = tuple(f"distance {row['distance']:g}" for row in unequal[:SHOWN_DUPLICATES])
        blocks.append(Gallery("Pairs with different labels", tiles, notes))
        more = unequal[SHOWN_DUPLICATES : SHOWN_DUPLICATES + LISTED]
        if more:
            blocks.append(_twins(more))
    return Section("duplicates", title, tuple(blocks))


def _suspect(row: Row, data: ReportData) -> Picture:
    lines = (
        Markup("given <b>{}</b> ({})").format(row["label"], n.share(row["p_label"])),
        Markup("rather <b>{}</b> ({})").format(row["suggested"], n.share(row["p_suggested"])),
        f"{row['members_wrong']} of {row['members']} members disagree",
    )
    return Picture(data.thumbnails.get(row["id"]), row["id"], lines)


def _picture(name: str, label: str, data: ReportData) -> Picture:
    return Picture(data.thumbnails.get(name), name, (Markup("given <b>{}</b>").format(label),))


def _rest(rows: list[Row], total: int) -> Table:
    columns = (
        Column("image", "text"),
        Column("given", "text"),
        Column("its probability"),
        Column("rather", "text"),
        Column("its probability"),
        Column("members that disagree", wide=True),
    )
    cells = tuple(
        (
            row["id"],
            row["label"],
            n.share(row["p_label"]),
            row["suggested"],
            n.share(row["p_suggested"]),
            f"{row['members_wrong']} of {row['members']}",
        )
        for row in rows
    )
    left = total - SHOWN_SUSPECTS - len(rows)
    reading = f"{n.count(left)} more are in analysis/suspects.parquet." if left else ""
    return Table("The next ones", columns, cells, shown=0, reading=reading)


def _twins(rows: list[Row]) -> Table:
    columns = (
        Column("image", "text"),
        Column("given", "text"),
        Column("image", "text"),
        Column("given", "text"),
        Column("distance"),
    )
    cells = tuple(
        (row["id_a"], row["label_a"], row["id_b"], row["label_b"], f"{row['distance']:g}")
        for row in rows
    )
    return Table("More pairs with different labels", columns, cells, shown=0)
