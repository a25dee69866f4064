from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ensemble.errors import BlendError
from ensemble.store_format import (
    TRUE_CLASS_COLUMNS,
    decode,
    decode_metadata,
    encode,
    encode_true_class,
    schema,
)
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


class TestTrueClassOnly:
    def parts(self) -> tuple[np.ndarray, ...]:
        one = made_members()["c0"]
        return one.ids, one.labels, one.folds, one.p_true

    def test_the_columns_are_those_of_version_1_without_proba(self) -> None:
        table = pq.read_table(pa.BufferReader(encode_true_class(*self.parts(), metadata())))
        assert table.schema.names == list(TRUE_CLASS_COLUMNS)
        assert all(
            table.schema.field(n).type == schema(3).field(n).type for n in table.schema.names
        )
        assert table["p_true"].to_numpy().tolist() == self.parts()[3].tolist()

    def test_an_unknown_label_has_a_null(self) -> None:
        ids, labels, folds, p_true = self.parts()
        labels = np.where(np.arange(120) == 3, -1, labels)
        data = encode_true_class(ids, labels, folds, p_true, metadata())
        column = pq.read_table(pa.BufferReader(data))["p_true"]
        assert column.null_count == 1
        assert column[3].as_py() is None

    def test_a_full_read_says_what_still_works(self) -> None:
        data = encode_true_class(*self.parts(), metadata())
        with pytest.raises(BlendError, match=r"'proba', got only .*log_loss without calibration"):
            decode(data)
        assert decode_metadata(pa.BufferReader(data)) == metadata()

    @pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan])
    def test_what_is_no_probability_is_refused(self, wrong: float) -> None:
        ids, labels, folds, p_true = self.parts()
        p_true[5] = wrong
        with pytest.raises(BlendError, match=r"'image 5\.jpg': expected a p_true from 0 to 1"):
            encode_true_class(ids, labels, folds, p_true, metadata())

    def test_ids_twice_and_other_lengths_and_labels_are_refused(self) -> None:
        ids, labels, folds, p_true = self.parts()
        twice = np.where(np.arange(120) == 1, ids[0], ids)
        beyond = np.where(np.arange(120) == 2, 3, labels)
        with pytest.raises(BlendError, match="119 ids in 120 rows"):
            encode_true_class(twice, labels, folds, p_true, metadata())
        with pytest.raises(BlendError, match="119 probabilities"):
            encode_true_class(ids, labels, folds, p_true[1:], metadata())
        with pytest.raises(BlendError, match=r"'image 2\.jpg': expected a label"):
            encode_true_class(ids, beyond, folds, p_true, metadata())
