from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ensemble.key_bytes import KeyBytes
from ensemble.predictions import Predictions
from ensemble.store_format import encode
from tests.ensemble.made import made_members, metadata


@pytest.fixture
def members() -> dict[str, Predictions]:
    return made_members(members=2)


def opened(data: bytes) -> tuple[pa.NativeFile, pq.ParquetFile]:
    source = pa.BufferReader(data)
    return source, pq.ParquetFile(source)


def test_the_keys_of_another_member_in_the_same_order_are_the_same_bytes(
    members: dict[str, Predictions],
) -> None:
    first = KeyBytes.of(*opened(encode(members["c0"], metadata("c0"))))
    assert first.are_in(*opened(encode(members["c1"], metadata("c1"))))


@pytest.mark.parametrize("column", ["ids", "labels", "folds"])
def test_one_other_value_is_noticed(members: dict[str, Predictions], column: str) -> None:
    one = members["c0"]
    first = KeyBytes.of(*opened(encode(one, metadata())))
    columns = {name: getattr(one, name).copy() for name in ("ids", "labels", "folds")}
    last = columns[column][-1]
    columns[column][-1] = "another.jpg" if column == "ids" else (last + 1) % 3
    other = Predictions(**columns, proba=one.proba)
    assert not first.are_in(*opened(encode(other, metadata())))


def test_another_order_is_noticed(members: dict[str, Predictions]) -> None:
    one = members["c0"]
    first = KeyBytes.of(*opened(encode(one, metadata())))
    turned = one.take(np.arange(one.n_rows)[::-1])
    assert not first.are_in(*opened(encode(turned, metadata())))


def rewritten(data: bytes, **how: object) -> tuple[pa.NativeFile, pq.ParquetFile]:
    out = pa.BufferOutputStream()
    pq.write_table(pq.read_table(pa.BufferReader(data)), out, **how)
    return opened(out.getvalue().to_pybytes())


@pytest.mark.parametrize(
    "how", [{"compression": "none"}, {"use_dictionary": True}, {"row_group_size": 50}]
)
def test_bytes_written_another_way_are_not_taken_for_the_same(
    members: dict[str, Predictions], how: dict[str, object]
) -> None:
    data = encode(members["c0"], metadata())
    source, file = rewritten(data, **how)
    assert not KeyBytes.of(*opened(data)).are_in(source, file)
    assert KeyBytes.of(source, file).are_in(*rewritten(data, **how))


def test_a_file_kept_from_version_1_has_keys(members: dict[str, Predictions]) -> None:
    kept = (Path(__file__).parent / "data" / "oof_version_1.parquet").read_bytes()
    keys = KeyBytes.of(*opened(kept))
    assert keys.are_in(*opened(kept))
    assert not keys.are_in(*opened(encode(members["c0"], metadata())))
