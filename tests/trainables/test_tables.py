from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from trainables.errors import DataError
from trainables.tables import ID_NAMES, LABEL_NAMES, column_of, read_table, texts


def test_every_cell_is_text_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(" ID ,label\n007,NA\n1.50,\nlast\n")
    frame = read_table(str(path), "data.path")
    assert texts(frame, "ID") == ("007", "1.50", "last")
    assert texts(frame, "label") == ("NA", "", "")


def test_a_tab_separated_table_goes_by_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("ID\tlabel\na,b.jpg\t1\n")
    assert texts(read_table(str(path), "data.path"), "ID") == ("a,b.jpg",)


def test_numbers_of_a_parquet_table_become_text(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": [1, 2], "b": [1.0, None], "c": [0.5, 1.0], "d": [True, False]}).to_parquet(
        path
    )
    frame = read_table(str(path), "data.path")
    assert [texts(frame, name) for name in "abcd"] == [
        ("1", "2"),
        ("1", ""),
        ("0.5", "1.0"),
        ("True", "False"),
    ]


def test_columns_are_known_by_name_in_any_case() -> None:
    frame = pd.DataFrame(columns=["File", "Category", "sender"])
    assert column_of(frame, None, ID_NAMES, "data.id_column", "t.csv") == "File"
    assert column_of(frame, None, LABEL_NAMES, "data.label_column", "t.csv") == "Category"
    assert column_of(frame, "sender", ID_NAMES, "data.id_column", "t.csv") == "sender"
    assert column_of(frame, None, ("nothing",), "data.id_column", "t.csv") is None
    with pytest.raises(DataError, match=r"id_column=fil: .*in t\.csv .*did you mean File"):
        column_of(frame, "fil", ID_NAMES, "data.id_column", "t.csv")
