from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.key_bytes import KeyBytes
from ensemble.predictions import Predictions
from ensemble.store import OofStore, read_predictions, write_predictions
from ensemble.store_format import encode_true_class
from ensemble.true_class import read_true_class
from tests.ensemble.made import made_members, metadata

KEPT_FILE = Path(__file__).parent / "data" / "oof_version_1.parquet"


def fill(store: OofStore, members: dict[str, Predictions]) -> None:
    for name, member in members.items():
        for fold in np.unique(member.folds).tolist():
            rows = np.flatnonzero(member.folds == fold)
            part = member.take(rows)
            write_predictions(store.fold_location("oof", name, fold), part, metadata(name))


def read(store: OofStore, member: Predictions, *names: str) -> np.ndarray:
    return read_true_class(store, names, member.ids, member.labels, member.folds)


@pytest.fixture
def store(tmp_path: Path) -> OofStore:
    return OofStore(Location.of(tmp_path / "run"))


@pytest.fixture
def members() -> dict[str, Predictions]:
    return made_members(members=3)


@pytest.fixture
def filled(store: OofStore, members: dict[str, Predictions]) -> OofStore:
    fill(store, members)
    return store


def test_every_member_is_a_row_in_the_order_asked_for(
    filled: OofStore, members: dict[str, Predictions]
) -> None:
    matrix = read(filled, members["c0"], "c2", "c0", "c1")
    assert matrix.dtype == np.float32
    expected = np.stack([members[name].p_true for name in ("c2", "c0", "c1")])
    np.testing.assert_array_equal(matrix, expected)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_whatever_the_order_in_the_files_it_is_that_of_the_fold_table(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    members = made_members(members=2, rows=30)
    store = OofStore(Location.of(tmp_path_factory.mktemp("run")))
    fill(store, {n: m.take(rng.permutation(m.n_rows)) for n, m in members.items()})
    table = members["c0"].take(rng.permutation(30))
    expected = [members[name].aligned_to(table.ids).p_true for name in ("c0", "c1")]
    np.testing.assert_array_equal(read(store, table, "c0", "c1"), expected)


def test_rows_without_a_label_have_no_probability(
    store: OofStore, members: dict[str, Predictions]
) -> None:
    whole = members["c0"]
    labels = np.where(np.arange(whole.n_rows) % 5, whole.labels, -1)
    partly = {
        name: Predictions(one.ids, labels, one.folds, one.proba) for name, one in members.items()
    }
    fill(store, partly)
    matrix = read(store, partly["c0"], "c0", "c1")
    assert np.isnan(matrix[:, labels == -1]).all()
    np.testing.assert_array_equal(matrix[1], partly["c1"].p_true)


def test_no_other_probability_is_read(filled: OofStore, members: dict[str, Predictions]) -> None:
    where = filled.fold_location("oof", "c1", 1)
    data = bytearray(where.read_bytes())
    part = members["c1"].take(members["c1"].folds == 1)
    start = data.index(part.proba[:4].tobytes())
    data[start : start + 16] = b"\xff" * 16
    where.write_bytes(bytes(data))
    with pytest.raises(BlendError, match="damaged"):
        read_predictions(where)
    np.testing.assert_array_equal(read(filled, members["c0"], "c1")[0], members["c1"].p_true)


def write_without_proba(store: OofStore, name: str, member: Predictions) -> None:
    for fold in np.unique(member.folds).tolist():
        part = member.take(member.folds == fold)
        data = encode_true_class(part.ids, part.labels, part.folds, part.p_true, metadata(name))
        store.fold_location("oof", name, fold).write_bytes(data)


def test_files_without_the_column_proba_are_enough(
    filled: OofStore, members: dict[str, Predictions]
) -> None:
    write_without_proba(filled, "c1", members["c1"])
    matrix = read(filled, members["c0"], "c0", "c1", "c2")
    np.testing.assert_array_equal(matrix, [member.p_true for member in members.values()])
    with pytest.raises(BlendError, match=r"'proba', got only the true class's .*log_loss"):
        filled.read_member("c1")


def test_a_file_kept_from_version_1_is_read(store: OofStore) -> None:
    kept = read_predictions(Location.of(KEPT_FILE))[0]
    table = kept.take(kept.folds == 0)
    about = metadata("c0")
    write_predictions(store.fold_location("oof", "c0", 0), table, about)
    np.testing.assert_array_equal(read(store, table, "c0"), [[0.75, 0.25]])


def test_files_that_polars_rewrote_are_read(
    filled: OofStore, members: dict[str, Predictions]
) -> None:
    where = filled.fold_location("oof", "c1", 0)
    about = {k.decode(): v.decode() for k, v in pq.read_schema(where.local_path).metadata.items()}
    table = pl.read_parquet(where.local_path)
    table.write_parquet(where.local_path, metadata=about)
    matrix = read(filled, members["c0"], "c0", "c1")
    np.testing.assert_array_equal(matrix[1], members["c1"].p_true)


def rewrite(store: OofStore, table: pa.Table, name: str = "c1", fold: int = 0) -> None:
    pq.write_table(table, store.fold_location("oof", name, fold).local_path)


def stored(store: OofStore, name: str = "c1", fold: int = 0) -> pa.Table:
    return pq.read_table(store.fold_location("oof", name, fold).local_path)


def replaced(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    index = table.column_names.index(column)
    return table.set_column(index, table.schema.field(column), pa.array(values, table[column].type))


def refused(store: OofStore, member: Predictions, message: str, fold: int = 0) -> None:
    """One line that starts with the file, also when the file before was right."""
    with pytest.raises(BlendError, match=message) as caught:
        read(store, member, "c0", "c1")
    assert str(caught.value).startswith(str(store.fold_location("oof", "c1", fold)))
    assert "\n" not in str(caught.value)


class TestContradictions:
    def test_a_label_that_contradicts_the_fold_table_is_refused(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        table = stored(filled)
        name, label = table["id"][3].as_py(), table["label"][3].as_py()
        rewrite(filled, replaced(table, "label", 3, (label + 1) % 3))
        refused(filled, members["c0"], f"{name!r}: expected label {label} as in folds.parquet, got")

    def test_a_fold_that_contradicts_the_fold_table_is_refused(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        table = stored(filled)
        name = table["id"][2].as_py()
        rewrite(filled, replaced(table, "fold", 2, 1))
        refused(filled, members["c0"], f"{name!r}: expected fold 0 as in folds.parquet, got 1")

    def test_a_fold_table_that_says_otherwise_about_all_files_refuses_them(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        one = members["c0"]
        folds = one.folds.copy()
        row = int(np.flatnonzero(folds == 0)[0])
        folds[row] = 1
        table = Predictions(one.ids, one.labels, folds, one.proba)
        with pytest.raises(BlendError, match=rf"another fold's \({one.ids[row]!r}\)"):
            read(filled, table, "c0")

    def test_an_unexpected_id_is_named_with_the_missing_one(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        table = stored(filled)
        name = table["id"][1].as_py()
        rewrite(filled, replaced(table, "id", 1, "strange.jpg"))
        message = rf"'strange.jpg'\); 1 missing \({name!r}\)"
        refused(filled, members["c0"], message)

    def test_missing_rows_are_counted_and_named(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        rewrite(filled, stored(filled).slice(5))
        refused(filled, members["c0"], r"expected the 40 ids .* got 35: 5 missing \(.*, …\)")

    def test_a_row_twice_is_named(self, filled: OofStore, members: dict[str, Predictions]) -> None:
        table = stored(filled)
        rewrite(filled, pa.concat_tables([table, table.slice(7, 1)]))
        refused(filled, members["c0"], rf"1 twice or more \({table['id'][7].as_py()!r}\)")

    def test_a_fold_that_is_not_stored_is_named(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        filled.fold_location("oof", "c1", 2).delete()
        refused(filled, members["c0"], "not stored, and folds.parquet has 40 rows", fold=2)

    def test_a_fold_that_the_table_does_not_know_is_named(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        part = members["c1"].take([0])
        write_predictions(filled.fold_location("oof", "c1", 7), part, metadata("c1"))
        refused(filled, members["c0"], "has no row of fold 7", fold=7)

    def test_the_file_of_another_configuration_is_refused(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        where = filled.fold_location("oof", "c1", 0)
        where.write_bytes(filled.fold_location("oof", "c2", 0).read_bytes())
        refused(filled, members["c0"], "expected predictions of c1, got those of c2")

    def test_other_classes_are_refused(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        part = members["c1"].take(members["c1"].folds == 0)
        about = metadata("c1", classes=("dog", "cat", "élan"))
        write_predictions(filled.fold_location("oof", "c1", 0), part, about)
        refused(filled, members["c0"], "expected the classes of configuration c0")

    def test_an_unknown_configuration_gets_the_nearest_name(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        with pytest.raises(BlendError, match="did you mean c0"):
            read(filled, members["c0"], "c00")


class TestValues:
    @pytest.mark.parametrize("value", [-0.25, 1.5, float("nan"), None])
    def test_what_is_no_probability_is_named_with_its_id(
        self, filled: OofStore, members: dict[str, Predictions], value: float | None
    ) -> None:
        table = stored(filled)
        name = table["id"][4].as_py()
        rewrite(filled, replaced(table, "p_true", 4, value))
        refused(filled, members["c0"], f"id {name!r}: expected a p_true from 0 to 1")

    def test_the_id_is_right_in_another_order_also_where_its_bytes_were_recognised(
        self, store: OofStore, members: dict[str, Predictions]
    ) -> None:
        fill(store, {n: m.take(np.arange(m.n_rows)[::-1]) for n, m in members.items()})
        table = stored(store)
        source, file = opened(store, "c0")
        where = store.fold_location("oof", "c1", 0)
        compression = {"id": "zstd", "label": "zstd", "fold": "zstd"}
        pq.write_table(
            replaced(table, "p_true", 6, 2.0),
            where.local_path,
            use_dictionary=False,
            compression=compression,
            write_page_checksum=True,
        )
        assert KeyBytes.of(source, file).are_in(*opened(store, "c1"))
        name = table["id"][6].as_py()
        refused(store, members["c0"], f"id {name!r}: expected a p_true .* got 2.0")

    def test_a_flipped_bit_is_noticed(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        where = filled.fold_location("oof", "c1", 0)
        data = bytearray(where.read_bytes())
        part = members["c1"].take(members["c1"].folds == 0)
        data[data.index(part.p_true.tobytes())] ^= 1
        where.write_bytes(bytes(data))
        refused(filled, members["c0"], "damaged")

    def test_rounding_beyond_one_is_clipped(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        rewrite(filled, replaced(stored(filled), "p_true", 0, 1.0000005))
        assert read(filled, members["c0"], "c1").max() == 1.0


def opened(store: OofStore, name: str) -> tuple[pa.NativeFile, pq.ParquetFile]:
    source = pa.OSFile(str(store.fold_location("oof", name, 0)))
    return source, pq.ParquetFile(source)


class TestDamage:
    @pytest.mark.parametrize("keep", [0, 3, 1000])
    def test_a_cut_file_is_refused(
        self, filled: OofStore, members: dict[str, Predictions], keep: int
    ) -> None:
        where = filled.fold_location("oof", "c1", 0)
        where.write_bytes(where.read_bytes()[:keep])
        refused(filled, members["c0"], "damaged")

    @pytest.mark.parametrize("column", ["id", "label", "fold", "p_true"])
    def test_a_missing_column_is_named(
        self, filled: OofStore, members: dict[str, Predictions], column: str
    ) -> None:
        rewrite(filled, stored(filled).drop_columns([column]))
        refused(filled, members["c0"], f"expected the column '{column}'")

    def test_a_null_is_refused(self, filled: OofStore, members: dict[str, Predictions]) -> None:
        rewrite(filled, replaced(stored(filled), "label", 0, None))
        refused(filled, members["c0"], "column 'label', got a null")

    def test_a_newer_version_asks_for_an_upgrade(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        table = stored(filled)
        about = {**table.schema.metadata, b"foldblend.version": b"2"}
        rewrite(filled, table.replace_schema_metadata(about))
        refused(filled, members["c0"], "upgrade foldblend")


class TestArguments:
    def test_an_id_twice_in_the_fold_table_is_refused(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        one = members["c0"]
        ids = one.ids.copy()
        ids[1] = ids[0]
        with pytest.raises(BlendError, match="every id once"):
            read_true_class(filled, ["c0"], ids, one.labels, one.folds)

    def test_other_lengths_are_refused(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        one = members["c0"]
        with pytest.raises(BlendError, match="got 120, 119 and 120"):
            read_true_class(filled, ["c0"], one.ids, one.labels[1:], one.folds)

    def test_no_member_is_an_empty_matrix(
        self, filled: OofStore, members: dict[str, Predictions]
    ) -> None:
        assert read(filled, members["c0"]).shape == (0, 120)


class TestRemote:
    def test_a_store_on_s3_works_the_same(
        self, s3_endpoint: str, members: dict[str, Predictions]
    ) -> None:
        store = OofStore(
            Location.of(f"s3://runs/{uuid.uuid4().hex}?endpoint_override={s3_endpoint}")
        )
        fill(store, members)
        matrix = read(store, members["c0"], "c2", "c0")
        np.testing.assert_array_equal(matrix, [members["c2"].p_true, members["c0"].p_true])
        with pytest.raises(BlendError, match="did you mean c0"):
            read(store, members["c0"], "c0", "c00")
