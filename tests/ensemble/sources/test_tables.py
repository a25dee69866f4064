from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.options import GatherOptions
from ensemble.sources.tables import (
    need,
    number_column,
    numeric_columns,
    parent_of,
    read_table,
    text_column,
)

NONE = GatherOptions()


def csv(tmp_path: Path, text: str) -> pa.Table:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    return read_table(Location.of(tmp_path / "a.csv"), NONE)


def test_ids_of_csv_are_text_and_keep_their_zeros(tmp_path: Path) -> None:
    table = csv(tmp_path, "id,label,cat\n007,1,0.5\n08,NA,1\n")
    assert text_column(table, "id").tolist() == ["007", "08"]
    assert text_column(table, "label").tolist() == ["1", "NA"]
    assert number_column(table, "cat").tolist() == [0.5, 1.0]
    assert numeric_columns(table) == ["cat"]


def test_whole_numbers_that_went_through_floats_are_the_same_ids(tmp_path: Path) -> None:
    assert text_column(csv(tmp_path, "id,x\n1.0,1\n22.0,2\n"), "id").tolist() == ["1", "22"]
    assert text_column(csv(tmp_path, "id,x\n1.0,1\n2.5,2\n"), "id").tolist() == ["1.0", "2.5"]
    pd.DataFrame({"id": [1.0, 2.0]}).to_parquet(tmp_path / "f.parquet")
    pl.DataFrame({"id": [1, 2]}).write_parquet(tmp_path / "i.parquet")
    pd.DataFrame({"id": pd.Categorical(["1", "2"])}).to_parquet(tmp_path / "c.parquet")
    for name in ("f", "i", "c"):
        table = read_table(Location.of(tmp_path / f"{name}.parquet"), NONE)
        assert text_column(table, "id").tolist() == ["1", "2"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_other_delimiters_and_quotes_are_read(tmp_path: Path, delimiter: str) -> None:
    table = csv(tmp_path, f'﻿"id"{delimiter}"a"\r\n"x{delimiter}y"{delimiter}0.25\r\n')
    assert text_column(table, "id").tolist() == [f"x{delimiter}y"]
    assert number_column(table, "a").tolist() == [0.25]


def test_text_among_numbers_is_no_number(tmp_path: Path) -> None:
    table = csv(tmp_path, "id,a\nx,0.5\ny,half\n")
    assert numeric_columns(table) == []
    with pytest.raises(BlendError, match="column 'a': expected numbers"):
        number_column(table, "a")


def test_a_column_twice_and_other_bytes_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(BlendError, match=r"a\.csv: expected every column once, got 'b' twice"):
        csv(tmp_path, "id,b,b\nx,1,2\n")
    with pytest.raises(BlendError, match=r"a\.csv: expected a CSV or Parquet table"):
        csv(tmp_path, "")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(BlendError, match=r"a\.parquet: expected a CSV or Parquet table") as caught:
        read_table(Location.of(tmp_path / "a.parquet"), NONE)
    assert "\n" not in str(caught.value)


def test_a_wrong_path_gets_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "model_oof.csv").write_text("x")
    with pytest.raises(BlendError, match=r"did you mean 'model_oof\.csv'"):
        need(Location.of(tmp_path / "model_off.csv"))
    with pytest.raises(BlendError, match=r"no such file or folder$"):
        need(Location.of(tmp_path / "nowhere" / "x"))


def test_the_folder_of_a_remote_file_keeps_its_store() -> None:
    where = Location.of("s3://bucket/a/b.csv?region=x")
    assert parent_of(where) == Location("s3://bucket/a?region=x")
    assert parent_of(Location.of("/x")) == Location("/")
