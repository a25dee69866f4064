from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.tuner.report.made_report import report_data
from tuner.report.blocks import Figure, Paragraph, Section, Table
from tuner.report.course import MAX_CHARTS, learning_curves, spending, value_scale
from tuner.report.data import ReportData


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return report_data(tmp_path_factory.mktemp("course") / "run")


def chart(section: Section) -> str:
    return next(str(one.chart) for one in section.blocks if isinstance(one, Figure))


def said(section: Section) -> str:
    return " ".join(str(one.text) for one in section.blocks if isinstance(one, Paragraph))


def test_every_backbone_has_a_chart_and_every_end_its_mark(data: ReportData) -> None:
    drawn = chart(learning_curves(data))
    for name in ("alpha", "beta", "gamma"):
        assert f"<h4>{name}</h4>" in drawn
    assert drawn.count('<path class="line') == sum(bool(one.epochs) for one in data.curves)
    ends = [one.end for one in data.curves if one.epochs]
    assert drawn.count('"mark k-pruned"') == ends.count("pruned") > 0
    assert drawn.count('"mark k-promoted"') == 3
    assert drawn.count('"mark k-member"') == 3 * 2  # on the probe fold stands the promotion


def test_the_legend_has_what_is_drawn_and_no_more(data: ReportData) -> None:
    drawn = chart(learning_curves(data))
    assert "glyph k-pruned" in drawn
    assert "glyph k-stopped" not in drawn


def test_what_failed_before_its_first_epoch_is_named(data: ReportData) -> None:
    assert "without a curve: c1 fold 0" in said(learning_curves(data))


def test_a_diverged_curve_is_named(data: ReportData) -> None:
    broken = replace(data.curves[-1], config_id="wild", epochs=(1, 2), values=(0.5, math.nan))
    text = said(learning_curves(replace(data, curves=(*data.curves, broken))))
    assert "no numbers break the lines of wild" in text


def test_more_backbones_than_charts_are_told(data: ReportData) -> None:
    curve = next(one for one in data.curves if one.epochs)
    many = tuple(replace(curve, backbone=f"b{at}") for at in range(MAX_CHARTS + 3))
    assert "3 more backbones" in said(learning_curves(replace(data, curves=many)))


def test_a_wild_value_does_not_flatten_the_others() -> None:
    losses = [1.0 + at / 100 for at in range(99)] + [9.0]
    scale = value_scale(losses, higher_is_better=False)
    assert scale.low < 1.0
    assert 1.8 < scale.high < 2.1
    upside = value_scale([-one for one in losses], higher_is_better=True)
    assert (upside.low, upside.high) == (pytest.approx(-scale.high), pytest.approx(-scale.low))


def test_losses_over_powers_of_ten_are_drawn_on_a_logarithmic_axis() -> None:
    scale = value_scale([0.01, 0.1, 7.0], higher_is_better=False)
    assert scale.log
    assert scale.low < 0.01 < 7.0 < scale.high
    assert not value_scale([0.01, 0.1, 0.9], higher_is_better=True).log
    assert not value_scale([0.0, 7.0], higher_is_better=False).log


def test_what_was_spent_adds_up(data: ReportData) -> None:
    section = spending(data)
    assert f"{data.spending.fold_epochs} fold-epochs" in said(section)
    (table,) = [one for one in section.blocks if isinstance(one, Table)]
    assert sum(int(str(row[2])) for row in table.rows) == data.spending.fold_epochs
    assert "o-member" in chart(section)
    assert "o-pruned" in chart(section)


def test_nothing_trained_nothing_spent(data: ReportData) -> None:
    empty = replace(data, curves=(), spending=replace(data.spending, cells=()))
    assert "No fold run" in said(learning_curves(empty))
    assert "Nothing was spent" in said(spending(empty))
