from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.tuner.report.made_report import report_data
from tuner.report.blocks import Figure, Paragraph
from tuner.report.data import ReportData
from tuner.report.evidence import NO_EVIDENCE, Evidence
from tuner.report.probabilities import calibration, calibration_error, correlation


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return report_data(tmp_path_factory.mktemp("probabilities") / "run")


def without(data: ReportData, name: str) -> ReportData:
    tables = {key: table for key, table in data.evidence.tables.items() if key != name}
    return replace(data, evidence=Evidence(tables, {}))


def test_the_calibration_error_weighs_bins_by_their_rows() -> None:
    rows = [
        {"rows": 30, "confidence": 0.9, "accuracy": 0.8},
        {"rows": 10, "confidence": 0.5, "accuracy": 0.7},
    ]
    assert calibration_error(rows) == pytest.approx((30 * 0.1 + 10 * 0.2) / 40)
    assert math.isnan(calibration_error([]))


def test_reliability_is_drawn_before_and_after(data: ReportData) -> None:
    sentence, figure = calibration(data).blocks
    assert isinstance(sentence, Paragraph)
    assert isinstance(figure, Figure)
    assert "off by 10.0\u202f% on average" in str(sentence.text)
    assert "before its calibration by 20.0\u202f%" in str(sentence.text)
    drawn = str(figure.chart)
    assert 'class="line l-after" d="M25.0 65.0L75.0 15.0"' in drawn
    assert "l-before" in drawn


def test_reliability_before_is_left_out_where_nobody_has_it(data: ReportData) -> None:
    section = calibration(without(data, "reliability_before"))
    assert "before" not in str(section.blocks)


def test_members_that_err_together_stand_in_a_map_of_both_halves(data: ReportData) -> None:
    figure, text = correlation(data).blocks
    assert isinstance(figure, Figure)
    assert isinstance(text, Paragraph)
    assert str(figure.chart).count(">0.42<") == 2
    assert "decide alike on 90\u202f%" in str(text.text)


@pytest.mark.parametrize("section", [calibration, correlation])
def test_without_its_table_a_section_says_so(data: ReportData, section: object) -> None:
    made = section(replace(data, evidence=NO_EVIDENCE))  # type: ignore[operator]
    assert [one.tone for one in made.blocks] == ["empty"]
