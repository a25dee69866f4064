from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ensemble.files import Location
from tests.tuner.report.made_report import report_blend, report_data, tables, write_tables
from tuner.report.blocks import Figure, Paragraph, Section, Table
from tuner.report.classes import MAX_HEAT_CLASSES, RECALL_DRAWN, confusion, mergeable, per_class
from tuner.report.data import ReportData
from tuner.report.evidence import NO_EVIDENCE, read_evidence


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return report_data(tmp_path_factory.mktemp("classes") / "run")


def with_classes(data: ReportData, folder: Path, number: int) -> ReportData:
    names = tuple(f"class{at}" for at in range(number))
    write_tables(folder, tables(["c0", "c1"], names))
    evidence = read_evidence(Location.of(folder))
    return replace(data, evidence=evidence, blend=report_blend(classes=names))


def kinds(section: Section) -> list[type]:
    return [type(one) for one in section.blocks]


def test_confusion_is_in_percent_of_the_true_class(data: ReportData) -> None:
    """30 of 40 cats are right, 10 are taken for dogs."""
    section = confusion(data)
    assert kinds(section) == [Figure, Table]
    chart = str(section.blocks[0].chart)  # type: ignore[union-attr]
    assert (
        '<th scope="row" title="cat">cat</th><td class="h8 d">75</td><td class="h3">25</td>'
        in chart
    )


def test_many_classes_have_no_heat_map_but_their_confused_pairs(
    data: ReportData, tmp_path: Path
) -> None:
    many = with_classes(data, tmp_path, MAX_HEAT_CLASSES + 1)
    assert kinds(confusion(many)) == [Table]


def test_recall_is_worst_first_against_the_member_that_knows_best(data: ReportData) -> None:
    section = per_class(data)
    assert kinds(section) == [Figure]
    chart = str(section.blocks[0].chart)  # type: ignore[union-attr]
    assert chart.index("cat") < chart.index("dog") < chart.index("owl")
    assert "50\u202f% · best 95\u202f% · 40 images" in chart


def test_many_classes_are_drawn_in_part_and_listed_in_whole(
    data: ReportData, tmp_path: Path
) -> None:
    section = per_class(with_classes(data, tmp_path, 50))
    assert kinds(section) == [Figure, Table]
    figure, table = section.blocks
    assert isinstance(figure, Figure)
    assert isinstance(table, Table)
    assert str(figure.chart).count("diamond") == RECALL_DRAWN
    assert "20 worst of 50 classes" in str(figure.reading)
    assert (len(table.open_rows), len(table.folded_rows)) == (0, 50)


def test_classes_that_may_be_one_are_listed_with_what_is_unknown(data: ReportData) -> None:
    (table,) = mergeable(data).blocks
    assert isinstance(table, Table)
    assert table.rows == (("cat", "dog", "40 + 40", "25\u202f%", "20\u202f%", "–"),)


@pytest.mark.parametrize("section", [confusion, per_class, mergeable])
def test_without_its_table_a_section_says_so(data: ReportData, section: object) -> None:
    made = section(replace(data, evidence=NO_EVIDENCE))  # type: ignore[operator]
    assert kinds(made) == [Paragraph]
    assert made.blocks[0].tone == "empty"
