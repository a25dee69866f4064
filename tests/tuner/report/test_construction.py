from __future__ import annotations

from dataclasses import replace

import pytest

from ensemble.calibration import Calibration
from tests.tuner.report.made_report import report_blend, report_data
from tuner.report.blocks import Facts, Figure, Paragraph, Section, Table
from tuner.report.construction import construction
from tuner.report.data import ReportData


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return report_data(tmp_path_factory.mktemp("built") / "run")


def facts(section: Section) -> dict[str, str]:
    (block,) = [one for one in section.blocks if isinstance(one, Facts)]
    return {name: str(value) for name, value in block.pairs}


def test_methods_stand_by_their_nested_scores_with_the_flattered_ones_beside(
    data: ReportData,
) -> None:
    (table,) = [one for one in construction(data).blocks if isinstance(one, Table)]
    assert table.rows == (
        ("greedy (chosen)", "0.3123", "best", "0.3301", "0.2987", "2"),
        ("equal", "0.3333", "0.0210 ± 0.0050", "0.3404", "0.3311", "3"),
    )
    assert table.strong == {0}
    assert "in-sample (flattered)" in [column.title for column in table.columns]


def test_the_choice_is_the_first_sentence(data: ReportData) -> None:
    first = construction(data).blocks[0]
    assert isinstance(first, Paragraph)
    assert first.text == "Weights by greedy: the best nested log_loss, chosen among it and equal."


def test_stages_are_drawn_where_there_are_several(data: ReportData) -> None:
    (figure,) = [one for one in construction(data).blocks if isinstance(one, Figure)]
    assert figure.chart.index("weights alone") < figure.chart.index("and calibration")
    assert data.blend is not None
    single = replace(data.blend, stages=data.blend.stages[:1])
    blocks = construction(replace(data, blend=single)).blocks
    assert not [one for one in blocks if isinstance(one, Figure)]


def test_calibration_groups_rules_and_certificate_are_told(data: ReportData) -> None:
    assert facts(construction(data)) == {
        "calibration of the blend": "temperature 1.300 (the blend was too sure)",
        "second blend within": "cat and dog",
        "rules": "words.csv: 12 labelled rows touched, trusted at 55\u202f%",
        "certificate": "no other weights could lower the in-sample log loss by more than 2.5e-07",
    }


@pytest.mark.parametrize(
    ("calibration", "text"),
    [
        (Calibration("none"), "none"),
        (Calibration("temperature", 0.5), "temperature 0.500 (the blend was too modest)"),
        (Calibration("temperature", 1.0), "temperature 1: nothing to correct"),
        (
            Calibration("vector", scale=(1.0,) * 3, bias=(0.0,) * 3),
            "vector scaling: a scale and a bias for every class",
        ),
    ],
)
def test_every_calibration_has_words(data: ReportData, calibration: Calibration, text: str) -> None:
    blend = report_blend(calibration=calibration)
    assert facts(construction(replace(data, blend=blend)))["calibration of the blend"] == text


def test_without_a_blend_there_is_a_sentence(data: ReportData) -> None:
    (only,) = construction(replace(data, blend=None)).blocks
    assert isinstance(only, Paragraph)
