from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.options import GatherOptions
from ensemble.sources.raw import RawPredictions
from ensemble.sources.table_file import read_ids, read_table_file
from ensemble.store import StoreMetadata
from ensemble.store_format import encode_true_class
from tests.ensemble.sources.made import CLASSES, members

NONE = GatherOptions()


def read(tmp_path: Path, text: str, *names: str) -> RawPredictions:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    return read_table_file(Location.of(tmp_path / "a.csv"), NONE, names)


def test_labels_and_folds_of_a_wide_table_are_kept_apart(tmp_path: Path) -> None:
    raw = read(tmp_path, "id,label,fold,cat,dog\na,dog,1,0.25,0.75\n")
    assert raw.values.tolist() == [[0.25, 0.75]]
    assert raw.classes == ("cat", "dog")
    assert raw.labels is not None
    assert raw.labels.labels.tolist() == ["dog"]
    assert raw.labels.folds is not None


def test_a_table_without_labels_has_none(tmp_path: Path) -> None:
    assert read(tmp_path, "id,cat,dog\na,0.25,0.75\n").labels is None


def test_a_class_with_text_in_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlendError, match=r"a\.csv: column 'dog': .* got string such as 'half'"):
        read(tmp_path, "id,cat,dog\na,0.25,half\n", "cat", "dog")


def test_a_table_without_class_columns_says_what_came(tmp_path: Path) -> None:
    with pytest.raises(BlendError, match=r"a\.csv: no probabilities: .*'id', 'label', 'pred'"):
        read(tmp_path, "id,label,pred\na,cat,1\n")


def test_a_true_class_only_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    one = members()["c0"]
    about = StoreMetadata(CLASSES, "c0", {}, {}, "")
    data = encode_true_class(one.ids, one.labels, one.folds, one.p_true, about)
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(BlendError, match=r"only the true class's probability \(p_true\)"):
        read_table_file(Location.of(tmp_path / "a.parquet"), NONE)


class TestLong:
    def test_a_row_for_every_image_and_class_is_pivoted(self, tmp_path: Path) -> None:
        raw = read(tmp_path, "id,class,probability\nb,dog,0.1\na,cat,0.2\nb,cat,0.9\na,dog,0.8\n")
        assert raw.ids.tolist() == ["b", "a"]
        assert raw.classes == ("dog", "cat")
        np.testing.assert_allclose(raw.values, [[0.1, 0.9], [0.8, 0.2]], rtol=1e-6)

    def test_numbered_classes_are_put_in_order(self, tmp_path: Path) -> None:
        raw = read(tmp_path, "id,class,p\na,1,0.2\na,0,0.8\n")
        assert raw.classes is None
        np.testing.assert_allclose(raw.values, [[0.8, 0.2]], rtol=1e-6)

    def test_a_missing_pair_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BlendError, match="id 'b', class 'dog': expected one probability"):
            read(tmp_path, "id,class,probability\na,cat,1\na,dog,0\nb,cat,1\n")


class TestLists:
    def test_lists_of_a_store_file_have_names(self, tmp_path: Path) -> None:
        pl.DataFrame(
            {"id": ["a", "b"], "probs": [[0.5, 0.5], [1.0, 0.0]]},
            schema={"id": pl.String, "probs": pl.Array(pl.Float32, 2)},
        ).write_parquet(tmp_path / "a.parquet")
        raw = read_table_file(Location.of(tmp_path / "a.parquet"), NONE)
        assert raw.classes is None
        assert raw.values.tolist() == [[0.5, 0.5], [1.0, 0.0]]

    def test_lists_of_other_lengths_are_refused(self, tmp_path: Path) -> None:
        table = pl.DataFrame({"id": ["a", "b"], "probs": [[0.5, 0.5], [1.0]]})
        table.write_parquet(tmp_path / "a.parquet")
        with pytest.raises(BlendError, match=r"'probs': .* in every row, got \[1, 2\]"):
            read_table_file(Location.of(tmp_path / "a.parquet"), NONE)


class TestIds:
    def test_one_column_is_enough(self, tmp_path: Path) -> None:
        (tmp_path / "ids.csv").write_text("whatever\na\nb\n")
        table = read_ids(Location.of(tmp_path / "ids.csv"), NONE)
        assert table.ids.tolist() == ["a", "b"]
        assert not any(table.labels)

    def test_labels_beside_them_are_read(self, tmp_path: Path) -> None:
        (tmp_path / "ids.csv").write_text("id,label\na,cat\n")
        assert read_ids(Location.of(tmp_path / "ids.csv"), NONE).labels.tolist() == ["cat"]

    def test_twice_is_refused_with_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "ids.csv").write_text("x\na\na\n")
        with pytest.raises(BlendError, match=r"ids\.csv: expected every id once"):
            read_ids(Location.of(tmp_path / "ids.csv"), NONE)
