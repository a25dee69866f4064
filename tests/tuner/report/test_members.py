from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tuner.report.made_report import report_blend, report_data
from tuner.report.blocks import Paragraph, Section, Table
from tuner.report.data import ReportData
from tuner.report.members import MAX_CONFIGURATIONS, MAX_WHY, leaderboard, members


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return report_data(tmp_path_factory.mktemp("members") / "run")


def tables(section: Section) -> list[Table]:
    return [one for one in section.blocks if isinstance(one, Table)]


def test_a_member_has_its_weight_stability_temperature_and_worth(data: ReportData) -> None:
    (table,) = tables(members(data))
    first = [str(cell) for cell in table.rows[0]]
    assert first[1] == "0.700"
    assert 'class="fill" style="width:93.3%"' in first[2]
    assert 'class="whisker" style="left:80.0%;width:20.0%"' in first[2]
    assert first[4:] == [
        *("0.600 to 0.750", "85\u202f%", "1.25", "0.4100", "0.3456", "1.2\u202f%"),
    ]
    assert "against 0.3123 with all" in str(table.reading)


def test_members_without_weight_are_listed_too(data: ReportData) -> None:
    section = members(data)
    assert "2 configurations of 3 offered have weight." in str(section.blocks[0])
    assert str(tables(section)[0].rows[2][1]) == "0"


def test_unmeasured_stability_is_said_and_not_drawn(data: ReportData) -> None:
    assert data.blend is not None
    bare = tuple(
        replace(one, stability=None, without=None, only_right=None) for one in data.blend.members
    )
    section = members(replace(data, blend=replace(data.blend, members=bare)))
    (table,) = tables(section)
    assert "used in" not in [column.title for column in table.columns]
    assert "whisker" not in str(table.rows[0][2])
    assert "not measured" in str(section.blocks[-1])


def test_a_blend_of_one_member_is_in_the_singular(data: ReportData) -> None:
    section = members(replace(data, blend=report_blend(["c0"])))
    assert "1 configuration of 1 offered has weight." in str(section.blocks[0])


def test_every_configuration_is_in_the_leaderboard_with_its_fate(data: ReportData) -> None:
    table = tables(leaderboard(data))[0]
    assert len(table.rows) == 9
    fates = [str(row[3]) for row in table.rows]
    assert sum("k-member" in fate for fate in fates) == 3
    assert sum("k-failed" in fate for fate in fates) == 1
    assert table.strong <= {0, 1, 2}
    assert len(table.strong) == 2


def test_a_failed_configuration_has_its_error_in_a_table_of_its_own(data: ReportData) -> None:
    failed = tables(leaderboard(data))[1]
    assert "c1" in str(failed.rows[0][0])
    assert failed.rows[0][1:] == ("0", "0", "3", "out of luck")


def test_searched_values_are_short_and_leave_the_backbone_to_its_column(data: ReportData) -> None:
    params = {"backbone": "alpha", "optimizer.lr [log 1e-4..1]": 0.0012345, "augment": "light"}
    first = data.rows[0].config_id
    table = tables(leaderboard(replace(data, searched={first: params})))[0]
    assert table.rows[0][8] == "lr 0.00123, augment light"


def test_a_long_reason_is_cut_and_a_long_list_told(data: ReportData) -> None:
    rows = tuple(replace(data.rows[0], why="x" * 999) for _ in range(MAX_CONFIGURATIONS + 5))
    table = tables(leaderboard(replace(data, rows=rows)))[0]
    assert len(table.rows) == MAX_CONFIGURATIONS
    assert len(str(table.rows[0][9])) == MAX_WHY
    assert "5 more are in fold_runs.parquet" in str(table.reading)


def test_optimistic_scores_have_a_star_and_a_note(data: ReportData) -> None:
    rows = tuple(replace(row, optimistic=True) for row in data.rows)
    table = tables(leaderboard(replace(data, rows=rows)))[0]
    assert str(table.rows[0][4]).endswith("*")
    assert "optimistic" in str(table.reading)


def test_without_a_blend_or_a_configuration_there_is_a_sentence(data: ReportData) -> None:
    empty = replace(data, blend=None, rows=())
    for section in (members(empty), leaderboard(empty)):
        assert [type(one) for one in section.blocks] == [Paragraph]
