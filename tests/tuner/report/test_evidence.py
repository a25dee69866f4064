from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.analysis.tables import SCHEMAS
from ensemble.files import Location
from tests.tuner.report.made_report import tables, write_tables
from tuner.report.evidence import COLUMNS, FOLDER, NO_EVIDENCE, read_evidence


def test_what_the_analysis_writes_is_what_the_page_reads() -> None:
    for name, columns in COLUMNS.items():
        if name in SCHEMAS:
            assert set(columns) <= set(SCHEMAS[name].names)


def test_tables_come_as_rows_of_one_model_or_of_all(tmp_path: Path) -> None:
    write_tables(tmp_path, tables(["c0", "c1"]))
    found = read_evidence(Location.of(tmp_path))
    assert not found.problems
    assert set(found.tables) == set(COLUMNS)
    assert len(found.rows("per_class")) == 9
    assert {row["model"] for row in found.rows("per_class", "blend")} == {"blend"}
    assert found.rows("agreement", "blend") == found.rows("agreement")


def test_a_missing_table_has_no_rows_and_a_sentence(tmp_path: Path) -> None:
    found = read_evidence(Location.of(tmp_path))
    assert found == NO_EVIDENCE
    assert found.rows("suspects") == []
    assert found.why_missing("suspects").startswith("There is no analysis/suspects.parquet")


def test_an_empty_table_is_another_sentence(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    empty = pa.table({name: pa.array([], pa.string()) for name in COLUMNS["duplicates"]})
    pq.write_table(empty, tmp_path / FOLDER / "duplicates.parquet")
    assert "found nothing" in read_evidence(Location.of(tmp_path)).why_missing("duplicates")


def test_a_damaged_or_foreign_table_is_a_problem_and_no_error(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "suspects.parquet").write_bytes(b"PAR1 cut off")
    pq.write_table(pa.table({"other": [1]}), folder / "confusion.parquet")
    (folder / "members.parquet").mkdir()
    found = read_evidence(Location.of(tmp_path))
    assert set(found.problems) == {"suspects", "confusion", "members"}
    assert "expected a column 'true_class', got other" in found.why_missing("confusion")
    assert "cannot be read" in found.why_missing("suspects")
