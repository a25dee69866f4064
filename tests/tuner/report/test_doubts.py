from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tuner.report.made_report import report_data
from tuner.report.blocks import Gallery, Paragraph, Table
from tuner.report.data import SHOWN_DUPLICATES, SHOWN_SUSPECTS, ReportData
from tuner.report.doubts import duplicates, suspects
from tuner.report.evidence import NO_EVIDENCE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return report_data(tmp_path_factory.mktemp("doubts") / "run")


def test_a_suspect_is_shown_with_what_it_is_called_and_what_it_may_be(data: ReportData) -> None:
    shown = replace(data, thumbnails={"img0": "data:image/jpeg;base64,AA"})
    lead, gallery, table = suspects(shown).blocks
    assert isinstance(lead, Paragraph)
    assert isinstance(gallery, Gallery)
    assert isinstance(table, Table)
    assert "60 images" in str(lead.text)
    assert len(gallery.tiles) == SHOWN_SUSPECTS
    first, second = gallery.tiles[0][0], gallery.tiles[1][0]
    assert first.source == "data:image/jpeg;base64,AA"
    assert second.source is None
    assert [str(line) for line in first.lines] == [
        "given <b>cat</b> (2\u202f%)",
        "rather <b>dog</b> (91\u202f%)",
        "3 of 3 members disagree",
    ]
    assert len(table.folded_rows) == 60 - SHOWN_SUSPECTS


def test_twins_with_two_labels_stand_side_by_side(data: ReportData) -> None:
    lead, gallery, table = duplicates(data).blocks
    assert isinstance(lead, Paragraph)
    assert isinstance(gallery, Gallery)
    assert isinstance(table, Table)
    assert "30 pairs of images look alike; 30 of them have two different labels" in str(lead.text)
    assert len(gallery.tiles) == SHOWN_DUPLICATES
    assert [one.name for one in gallery.tiles[0]] == ["img0", "twin0"]
    assert gallery.notes[3] == "distance 3"
    assert len(table.rows) == 30 - SHOWN_DUPLICATES


@pytest.mark.parametrize("section", [suspects, duplicates])
def test_without_its_table_a_section_says_so(data: ReportData, section: object) -> None:
    made = section(replace(data, evidence=NO_EVIDENCE))  # type: ignore[operator]
    assert [one.tone for one in made.blocks] == ["empty"]
