from __future__ import annotations

import pyarrow as pa
import pytest

from ensemble.errors import BlendError
from ensemble.store_format import decode, decode_metadata, encode, schema
from tests.ensemble.made import made_members, metadata


def test_the_metadata_can_be_read_without_the_rows() -> None:
    data = encode(made_members()["c0"], metadata())
    assert decode_metadata(pa.BufferReader(data)) == metadata() == decode(data)[1]


def test_damaged_bytes_have_no_metadata() -> None:
    with pytest.raises(BlendError, match="damaged"):
        decode_metadata(pa.BufferReader(b"PAR1"))


def test_probabilities_are_stored_without_compression_and_the_rest_is_small() -> None:
    predictions = made_members(rows=2000)["c0"]
    size = len(encode(predictions, metadata()))
    assert predictions.proba.nbytes < size < 2 * predictions.proba.nbytes


def test_the_columns_are_those_of_version_1() -> None:
    assert schema(7).names == ["id", "label", "fold", "p_true", "proba"]
    assert schema(7).field("proba").type == pa.list_(pa.float32(), 7)
