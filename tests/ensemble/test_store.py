from __future__ import annotations

import uuid
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.store import OofStore, StoreMetadata, read_predictions, write_predictions
from tests.ensemble.made import made_members, metadata

KEPT_FILE = Path(__file__).parent / "data" / "oof_version_1.parquet"


def fill(
    run: Location, members: dict[str, Predictions], folds: tuple[int, ...] = (0, 1, 2)
) -> None:
    store = OofStore(run)
    for name, member in members.items():
        for fold in folds:
            write_predictions(
                store.fold_location("oof", name, fold),
                member.take(member.folds == fold),
                metadata(name),
            )


@pytest.fixture
def run(tmp_path: Path) -> Location:
    return Location.of(tmp_path / "run")


def same(a: Predictions, b: Predictions) -> None:
    for column in ("ids", "labels", "folds", "proba"):
        np.testing.assert_array_equal(getattr(a, column), getattr(b, column))


class TestOneFile:
    def test_predictions_and_metadata_come_back_exactly(self, run: Location) -> None:
        predictions = made_members()["c0"]
        write_predictions(run / "file.parquet", predictions, metadata())
        again, about = read_predictions(run / "file.parquet")
        same(again, predictions)
        assert about == metadata()
        assert about.classes == ("cat", "dog", "élan")

    def test_unknown_labels_have_a_null_p_true(self, run: Location) -> None:
        whole = made_members()["c0"]
        labels = np.where(np.arange(whole.n_rows) % 2, whole.labels, -1)
        predictions = Predictions(whole.ids, labels, whole.folds, whole.proba)
        write_predictions(run / "file.parquet", predictions, metadata())
        same(read_predictions(run / "file.parquet")[0], predictions)
        column = pq.read_table((run / "file.parquet").local_path)["p_true"]
        assert column.is_null().to_numpy().tolist() == (labels == -1).tolist()
        np.testing.assert_array_equal(
            column.drop_null().to_numpy(), predictions.p_true[labels != -1]
        )

    def test_a_file_without_rows_comes_back(self, run: Location) -> None:
        write_predictions(run / "file.parquet", made_members()["c0"].take([]), metadata())
        assert read_predictions(run / "file.parquet")[0].proba.shape == (0, 3)

    def test_the_file_has_the_columns_and_keys_of_version_1(self, run: Location) -> None:
        write_predictions(run / "file.parquet", made_members()["c0"], metadata())
        file = pq.ParquetFile((run / "file.parquet").local_path)
        found = file.schema_arrow
        assert [(field.name, str(field.type)) for field in found] == [
            ("id", "string"),
            ("label", "int32"),
            ("fold", "int16"),
            ("p_true", "float"),
            ("proba", "fixed_size_list<element: float>[3]"),
        ]
        assert found.metadata == {
            b"foldblend.version": b"1",
            b"foldblend.classes": '["cat", "dog", "élan"]'.encode(),
            b"foldblend.config_id": b"c0",
            b"foldblend.configuration": (
                b'{"backbone": {"name": "test_resnet"}, "optimizer": {"lr": 0.001}}'
            ),
            b"foldblend.metrics": b'{"log_loss": 0.5}',
            b"foldblend.data_fingerprint": b"f00d",
        }
        group = file.metadata.row_group(0)
        for column in range(group.num_columns):
            assert not any("DICTIONARY" in name for name in group.column(column).encodings)

    def test_a_file_kept_from_version_1_is_always_readable(self) -> None:
        predictions, about = read_predictions(Location.of(KEPT_FILE))
        assert predictions.ids.tolist() == ["a.jpg", "b b.jpg", "é.jpg", "d.jpg"]
        assert predictions.labels.tolist() == [0, 1, 2, -1]
        assert predictions.folds.tolist() == [0, 0, 1, 2]
        np.testing.assert_array_equal(
            predictions.proba,
            np.array(
                [[0.75, 0.25, 0], [0.5, 0.25, 0.25], [0, 0, 1], [0.125, 0.125, 0.75]], np.float32
            ),
        )
        assert about == metadata()

    def test_class_names_must_fit_the_probabilities(self, run: Location) -> None:
        with pytest.raises(BlendError, match=r"configuration c0: expected 2 .*got 3"):
            write_predictions(run / "f", made_members()["c0"], metadata(classes=("a", "b")))
        assert not (run / "f").exists()
        with pytest.raises(BlendError, match="each once"):
            metadata(classes=("a", "a"))

    def test_a_metric_that_is_nan_is_refused(self, run: Location) -> None:
        with pytest.raises(ValueError, match="JSON"):
            write_predictions(
                run / "f", made_members()["c0"], metadata(metrics={"log_loss": float("nan")})
            )

    def test_a_missing_file_is_not_a_damaged_one(self, run: Location) -> None:
        with pytest.raises(FileNotFoundError):
            read_predictions(run / "missing.parquet")


def refuse(file: Location, message: str) -> None:
    """The error is one line that starts with the file."""
    with pytest.raises(BlendError, match=message) as caught:
        read_predictions(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


class TestWrongFiles:
    @pytest.fixture
    def file(self, run: Location) -> Location:
        write_predictions(run / "file.parquet", made_members()["c0"], metadata())
        return run / "file.parquet"

    def rewrite(self, file: Location, table: pa.Table, **about: str | None) -> None:
        items = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
        items |= {f"foldblend.{key}": value for key, value in about.items()}
        kept = {key: value for key, value in items.items() if value is not None}
        pq.write_table(table.replace_schema_metadata(kept), file.local_path)

    def table(self, file: Location) -> pa.Table:
        return pq.read_table(file.local_path)

    @pytest.mark.parametrize("keep", [0, 3, 1000])
    def test_a_cut_file_is_refused(self, file: Location, keep: int) -> None:
        file.write_bytes(file.read_bytes()[:keep])
        refuse(file, "damaged")

    def test_a_single_flipped_bit_in_the_probabilities_is_noticed(self, file: Location) -> None:
        data = bytearray(file.read_bytes())
        start = data.index(made_members()["c0"].proba[:4].tobytes())
        data[start + 1] ^= 1
        file.write_bytes(bytes(data))
        refuse(file, "damaged")

    def test_another_text_file_is_refused(self, file: Location) -> None:
        file.write_text("id,label\na,0\n")
        refuse(file, "damaged")

    def test_parquet_of_another_program_is_refused(self, file: Location) -> None:
        pd.DataFrame({"id": ["a"], "p": [0.5]}).to_parquet(file.local_path)
        refuse(file, "foldblend.version")

    def test_a_newer_version_asks_for_an_upgrade(self, file: Location) -> None:
        self.rewrite(file, self.table(file), version="2")
        refuse(file, "upgrade foldblend")

    @pytest.mark.parametrize("version", ["0", "one", "-1", ""])
    def test_a_version_that_never_was_is_refused(self, file: Location, version: str) -> None:
        self.rewrite(file, self.table(file), version=version)
        refuse(file, "expected a store version")

    @pytest.mark.parametrize("key", ["classes", "config_id", "metrics", "data_fingerprint"])
    def test_missing_metadata_is_named(self, file: Location, key: str) -> None:
        self.rewrite(file, self.table(file), **{key: None})
        refuse(file, f"foldblend.{key}")

    @pytest.mark.parametrize(
        ("key", "text"), [("classes", "[1"), ("configuration", "3"), ("metrics", '{"a": "b"}')]
    )
    def test_metadata_that_is_no_such_json_is_refused(
        self, file: Location, key: str, text: str
    ) -> None:
        self.rewrite(file, self.table(file), **{key: text})
        refuse(file, "expected JSON")

    @pytest.mark.parametrize("column", ["id", "label", "fold", "p_true", "proba"])
    def test_a_missing_column_is_named(self, file: Location, column: str) -> None:
        self.rewrite(file, self.table(file).drop_columns([column]))
        refuse(file, f"expected the column '{column}'")

    def test_a_column_of_another_type_is_named(self, file: Location) -> None:
        table = self.table(file)
        wrong = table.set_column(1, "label", table["label"].cast(pa.float64()))
        self.rewrite(file, wrong)
        refuse(file, "column 'label': expected int32, got double")

    def test_other_numbers_of_classes_are_named(self, file: Location) -> None:
        self.rewrite(file, self.table(file), classes='["a", "b"]')
        refuse(file, r"column 'proba': expected fixed_size_list.*\[2\], got .*\[3\]")

    def test_a_null_is_refused(self, file: Location) -> None:
        table = self.table(file)
        labels = pa.array([None, *table["label"].to_pylist()[1:]], pa.int32())
        self.rewrite(file, table.set_column(1, "label", labels))
        refuse(file, "column 'label', got a null")

    def test_an_id_twice_is_named(self, file: Location) -> None:
        table = self.table(file)
        self.rewrite(file, pa.concat_tables([table, table.slice(0, 1)]))
        refuse(file, "'image 0.jpg' 2 times")

    def test_probabilities_out_of_range_are_refused(self, file: Location) -> None:
        table = self.table(file)
        flat = pa.array(np.full(table.num_rows * 3, 0.5, np.float32))
        column = pa.FixedSizeListArray.from_arrays(flat, 3)
        self.rewrite(file, table.set_column(4, "proba", column))
        refuse(file, "row 0: expected a sum of 1")

    def test_ids_written_as_large_strings_by_other_programs_are_read(self, file: Location) -> None:
        table = self.table(file)
        self.rewrite(file, table.set_column(0, "id", table["id"].cast(pa.large_string())))
        same(read_predictions(file)[0], made_members()["c0"])


class TestOofStore:
    def test_files_lie_where_the_contract_says(self, run: Location) -> None:
        where = OofStore(run).fold_location("test", "c1", 4)
        assert str(where) == f"{run}/test/config_id=c1/fold=4.parquet"

    def test_an_empty_run_has_no_members(self, run: Location) -> None:
        store = OofStore(run)
        assert store.config_ids() == []
        assert store.complete_members(3) == []
        assert store.folds("oof", "c0") == []
        assert not store.has("oof", "c0", 0)

    def test_a_member_is_complete_when_all_its_folds_are(self, run: Location) -> None:
        members = made_members(members=3)
        fill(run, {"c0": members["c0"], "c2": members["c2"]})
        fill(run, {"c1": members["c1"]}, folds=(0, 2))
        store = OofStore(run)
        assert store.config_ids() == ["c0", "c1", "c2"]
        assert store.config_ids("test") == []
        assert store.folds("oof", "c1") == [0, 2]
        assert store.has("oof", "c1", 2)
        assert not store.has("oof", "c1", 1)
        assert store.complete_members(3) == ["c0", "c2"]

    def test_ten_folds_are_in_numeric_order(self, run: Location) -> None:
        for fold in range(11):
            (run / "oof" / "config_id=c0" / f"fold={fold}.parquet").write_bytes(b"")
        (run / "oof" / "config_id=c0" / "fold=x.parquet").write_bytes(b"")
        (run / "oof" / "notes.txt").write_bytes(b"")
        assert OofStore(run).folds("oof", "c0") == list(range(11))
        assert OofStore(run).config_ids() == ["c0"]

    def test_a_member_comes_back_in_the_expected_order(self, run: Location) -> None:
        members = made_members(members=2)
        fill(run, members)
        store = OofStore(run)
        same(store.read_member("c1", members["c1"].ids.tolist()), members["c1"])
        assert sorted(store.read_member("c1").ids) == sorted(members["c1"].ids)
        assert store.metadata("c1") == metadata("c1")

    def test_a_row_in_two_files_is_named_with_both(self, run: Location) -> None:
        member = made_members()["c0"]
        fill(run, {"c0": member})
        store = OofStore(run)
        again = Predictions(
            np.array(["image 3.jpg"]), member.labels[:1], np.array([5]), member.proba[:1]
        )
        write_predictions(store.fold_location("oof", "c0", 5), again, metadata())
        with pytest.raises(BlendError, match=r"'image 3.jpg' is in .*fold=\d.* and .*fold=5"):
            store.read_member("c0")

    def test_missing_rows_are_named_with_the_member(self, run: Location) -> None:
        member = made_members()["c0"]
        fill(run, {"c0": member}, folds=(0, 1))
        with pytest.raises(BlendError, match="config_id=c0: expected 120 ids, got 80: 40 missing"):
            OofStore(run).read_member("c0", member.ids.tolist())

    def test_rows_in_the_file_of_another_fold_are_refused(self, run: Location) -> None:
        member = made_members()["c0"]
        store = OofStore(run)
        write_predictions(store.fold_location("oof", "c0", 0), member, metadata())
        with pytest.raises(BlendError, match="expected only rows of fold 0, got id"):
            store.read_member("c0")

    def test_the_file_of_another_configuration_is_refused(self, run: Location) -> None:
        fill(run, {"c0": made_members()["c0"]})
        store = OofStore(run)
        data = store.fold_location("oof", "c0", 1).read_bytes()
        store.fold_location("oof", "c9", 1).write_bytes(data)
        with pytest.raises(BlendError, match="expected predictions of c9, got those of c0"):
            store.read_member("c9")

    def test_an_unknown_configuration_gets_the_nearest_name(self, run: Location) -> None:
        fill(run, {"c0": made_members()["c0"]})
        with pytest.raises(BlendError, match="'c00'; did you mean c0"):
            OofStore(run).read_member("c00")
        with pytest.raises(BlendError, match="no stored fold"):
            OofStore(run).metadata("zebra")

    @pytest.mark.parametrize("name", ["", "../x", "a/b", "a=b", "a b", ".hidden"])
    def test_a_name_that_makes_no_folder_is_refused(self, run: Location, name: str) -> None:
        with pytest.raises(BlendError, match="config_id"):
            OofStore(run).fold_location("oof", name, 0)

    def test_test_predictions_are_one_per_fold_in_one_order(self, run: Location) -> None:
        store = OofStore(run)
        parts = list(made_members(members=3).values())
        for fold, part in enumerate(parts):
            shuffled = part.take(np.random.default_rng(fold).permutation(part.n_rows))
            write_predictions(store.fold_location("test", "c0", fold), shuffled, metadata())
        read = store.read_test("c0")
        assert len(read) == 3
        for got, part in zip(read, parts, strict=True):
            assert got.ids.tolist() == read[0].ids.tolist()
            same(got.aligned_to(part.ids), part)

    def test_test_predictions_of_other_images_name_the_file(self, run: Location) -> None:
        store = OofStore(run)
        member = made_members()["c0"]
        write_predictions(store.fold_location("test", "c0", 0), member, metadata())
        write_predictions(store.fold_location("test", "c0", 1), member.take([0, 1]), metadata())
        with pytest.raises(BlendError, match=r"fold=1.parquet: expected 120 ids, got 2"):
            store.read_test("c0")

    def test_a_store_on_s3_works_the_same(self, s3_endpoint: str) -> None:
        run = Location.of(f"s3://runs/{uuid.uuid4().hex}?endpoint_override={s3_endpoint}")
        members = made_members(members=2)
        fill(run, members)
        store = OofStore(run)
        assert store.complete_members(3) == ["c0", "c1"]
        same(store.read_member("c0", members["c0"].ids.tolist()), members["c0"])
        assert store.metadata("c1") == metadata("c1")


class TestOtherPrograms:
    """The whole `oof/` folder as one table, with the folder names as a column."""

    @pytest.fixture
    def oof(self, run: Location) -> Path:
        fill(run, made_members(members=2))
        return (run / "oof").local_path

    def check(self, table: pd.DataFrame) -> None:
        members = made_members(members=2)
        assert len(table) == 240
        for name, rows in table.groupby(table["config_id"].astype(str)):
            member = members[str(name)]
            ordered = rows.set_index("id").loc[member.ids]
            np.testing.assert_array_equal(ordered["label"], member.labels)
            np.testing.assert_array_equal(ordered["fold"].astype(int), member.folds)
            np.testing.assert_array_equal(ordered["p_true"], member.p_true)
            np.testing.assert_array_equal(np.stack(ordered["proba"].tolist()), member.proba)

    def test_pandas_reads_it(self, oof: Path) -> None:
        self.check(pd.read_parquet(oof))

    def test_polars_reads_it(self, oof: Path) -> None:
        table = pl.read_parquet(oof, hive_partitioning=True)
        assert table.schema["proba"] == pl.Array(pl.Float32, 3)
        self.check(pd.DataFrame(table.to_dict(as_series=False)))

    def test_duckdb_reads_it(self, oof: Path) -> None:
        table = duckdb.sql(
            f"select * from read_parquet('{oof}/*/*.parquet', hive_partitioning=true)"
        )
        self.check(table.df())


def test_metadata_is_a_frozen_value() -> None:
    with pytest.raises(AttributeError):
        metadata().config_id = "x"  # type: ignore[misc]
    assert StoreMetadata(["a", "b"], "c", {}, {}, "").classes == ("a", "b")  # type: ignore[arg-type]
