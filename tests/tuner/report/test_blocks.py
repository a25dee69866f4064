from __future__ import annotations

from tuner.report.blocks import Column, Table, missing


def table(rows: int, shown: int) -> Table:
    return Table("t", (Column("n"),), tuple((str(at),) for at in range(rows)), shown=shown)


def test_a_long_table_is_folded_behind_its_first_rows() -> None:
    long = table(20, shown=5)
    assert [row[0] for row in long.open_rows] == ["0", "1", "2", "3", "4"]
    assert len(long.folded_rows) == 15


def test_two_rows_more_are_no_reason_to_fold() -> None:
    assert len(table(7, shown=5).open_rows) == 7
    assert table(7, shown=5).folded_rows == ()


def test_what_is_missing_is_a_sentence() -> None:
    (only,) = missing("there is none")
    assert (only.kind, only.tone, only.text) == ("paragraph", "empty", "there is none")
