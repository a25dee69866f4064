from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.analysis.tables import (
    DUPLICATES,
    OPTIONAL,
    SCHEMAS,
    TABLES,
    analyse,
    as_table,
    read_analysis,
    write_analysis,
)
from ensemble.errors import BlendError
from ensemble.files import Location
from tests.ensemble.analysis.made import plausible

# What a page and other programs were promised: change it only together with them.
COLUMNS = {
    "per_class": "model class rows recall precision f1",
    "confused_pairs": "model true_class predicted_class count share mean_probability",
    "confusion": "true_class predicted_class count",
    "best_member": "class member recall blend_recall f1 blend_f1 gain",
    "agreement": "member_a member_b agreement error_correlation both_wrong same_wrong "
    "loss_correlation",
    "members": "name weight log_loss accuracy macro_f1 ece only_right decided_alone",
    "suspects": "rank id label suggested p_label p_suggested margin members_wrong members "
    "all_wrong confident_learning",
    "mergeable": "class_a class_b rows_a rows_b a_as_b b_as_a mutual auc",
    "reliability": "model bin low high confidence accuracy rows",
    "fold_scores": "model fold rows log_loss accuracy macro_f1",
    "rows": "id label fold blend_class p_label p_blend_class correct members_right",
    "duplicates": "id_a id_b label_a label_b distance same_label",
    "reliability_before": "model bin low high confidence accuracy rows",
}
KEYS = {
    "per_class": ["model", "class"],
    "confused_pairs": ["model", "true_class", "predicted_class"],
    "confusion": ["true_class", "predicted_class"],
    "best_member": ["class"],
    "agreement": ["member_a", "member_b"],
    "members": ["name"],
    "suspects": ["rank"],
    "mergeable": ["class_a", "class_b"],
    "reliability": ["model", "bin"],
    "fold_scores": ["model", "fold"],
    "rows": ["id"],
}


def test_names_and_columns_are_the_contract() -> None:
    assert {name: " ".join(schema.names) for name, schema in SCHEMAS.items()} == COLUMNS
    assert (*TABLES, *OPTIONAL) == tuple(COLUMNS)


def test_an_analysis_has_every_table_with_its_columns() -> None:
    said: list[str] = []
    tables = analyse(plausible(0, members=2), progress=said.append)
    assert tuple(tables) == TABLES
    for name, table in tables.items():
        assert table.schema.equals(SCHEMAS[name])
        table.validate(full=True)
    assert said[:3] == [
        "reading member 1 of 2: c0",
        "reading member 2 of 2: c1",
        "analysis: per_class",
    ]


def assert_same(first: dict[str, pa.Table], second: dict[str, pa.Table]) -> None:
    """Equal but for the order of rows, and of sums."""
    for name in TABLES:
        one, other = (
            of[name].sort_by([(key, "ascending") for key in KEYS[name]]).to_pydict()
            for of in (first, second)
        )
        for column, values in one.items():
            if pa.types.is_floating(SCHEMAS[name].field(column).type):
                a, b = (np.array(x, dtype=float) for x in (values, other[column]))
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=f"{name} {column}")
            else:
                assert values == other[column], (name, column)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    before = plausible(seed)
    order = np.random.default_rng(seed).permutation(before.n_rows)
    after = replace(
        before,
        ids=before.ids[order],
        labels=before.labels[order],
        folds=before.folds[order],
        blend=before.blend[order],
        members=lambda name: before.read(name)[order],
    )
    assert_same(analyse(before), analyse(after))


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_members_does_not_matter(seed: int) -> None:
    before = plausible(seed)
    order = np.random.default_rng(seed).permutation(before.n_members)
    after = replace(
        before,
        names=tuple(before.names[index] for index in order),
        weights=before.weights[order],
    )
    first, second = analyse(before), analyse(after)
    swapped = second["agreement"].to_pandas()
    pair = np.sort(swapped[["member_a", "member_b"]].to_numpy(dtype=str), axis=1)
    swapped["member_a"], swapped["member_b"] = pair.T
    second["agreement"] = pa.Table.from_pandas(swapped, SCHEMAS["agreement"], preserve_index=False)
    assert_same(first, second)


def test_tables_agree_with_each_other() -> None:
    tables = analyse(plausible(3, rows=200))
    accuracy = np.mean(tables["rows"]["correct"].to_pylist())
    cells = tables["confusion"].to_pandas()
    right = cells[cells.true_class == cells.predicted_class]
    assert right["count"].sum() / cells["count"].sum() == pytest.approx(accuracy)
    pairs = tables["confused_pairs"].to_pandas()
    wrong = pairs[pairs.model == "blend"]["count"].sum()
    assert wrong == cells["count"].sum() - right["count"].sum()
    assert (np.diff(pairs["count"]) <= 0).all()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    location = Location.of(tmp_path / "run" / "analysis")
    tables = analyse(plausible(0))
    write_analysis(location, tables)
    back = read_analysis(location)
    assert list(back) == list(TABLES)
    for name in TABLES:
        assert back[name].equals(tables[name]), name
    write_analysis(location, {DUPLICATES: duplicates()})
    assert read_analysis(location)[DUPLICATES].to_pylist() == duplicates().to_pylist()


def duplicates() -> pa.Table:
    return as_table(
        DUPLICATES,
        {
            "id_a": ["1.jpg"],
            "id_b": ["2.jpg"],
            "label_a": ["ant"],
            "label_b": ["bee"],
            "distance": np.array([4]),
            "same_label": np.array([False]),
        },
    )


def test_duckdb_and_polars_read_every_table(tmp_path: Path) -> None:
    tables = analyse(plausible(0))
    write_analysis(Location.of(tmp_path), tables)
    for name in TABLES:
        path = tmp_path / f"{name}.parquet"
        wanted = [tuple(row.values()) for row in tables[name].to_pylist()]
        assert duckdb.sql(f"select * from '{path}'").fetchall() == wanted, name
        assert pl.read_parquet(path).rows() == wanted, name
    rows, cells = tmp_path / "rows.parquet", tmp_path / "confusion.parquet"
    by_row = duckdb.sql(f"select avg(correct::int) from '{rows}'").fetchall()
    by_cell = duckdb.sql(
        f"select sum(count) filter (true_class = predicted_class) / sum(count) from '{cells}'"
    ).fetchall()
    assert by_row[0][0] == pytest.approx(by_cell[0][0])


def test_an_analysis_that_lacks_a_table_says_which(tmp_path: Path) -> None:
    location = Location.of(tmp_path)
    write_analysis(location, analyse(plausible(0)))
    (tmp_path / "mergeable.parquet").unlink()
    with pytest.raises(BlendError, match=r"mergeable\.parquet: no such table; analyse the run"):
        read_analysis(location)


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    location = Location.of(tmp_path)
    write_analysis(location, analyse(plausible(0)))
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BlendError, match=r"rows\.parquet: not a Parquet file") as caught:
        read_analysis(location)
    assert "\n" not in str(caught.value)
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "rows.parquet")
    with pytest.raises(BlendError, match=r"rows\.parquet: expected columns .* got \['id'\]"):
        read_analysis(location)


def test_only_the_contracts_tables_are_made_and_written(tmp_path: Path) -> None:
    location = Location.of(tmp_path / "analysis")
    with pytest.raises(BlendError, match="unknown table 'row', expected one of per_class"):
        write_analysis(location, {"rows": analyse(plausible(0))["rows"], "row": duplicates()})
    with pytest.raises(BlendError, match="table rows: expected"):
        write_analysis(location, {"rows": duplicates()})
    assert not location.exists()
    cells = {"true_class": ["a"], "predicted_class": [None], "count": [1]}
    with pytest.raises(BlendError, match=r"confusion, column 'predicted_class': .* got a null"):
        as_table("confusion", cells)
    with pytest.raises(BlendError, match="table confusion: expected columns"):
        as_table("confusion", {"true_class": ["a"]})


def test_nan_is_null() -> None:
    columns = {
        "model": ["m"],
        "class": ["ant"],
        "rows": [0],
        "recall": [np.nan],
        "precision": [0.5],
        "f1": [np.nan],
    }
    (row,) = as_table("per_class", columns).to_pylist()
    assert [row[name] for name in ("recall", "precision", "f1")] == [None, 0.5, None]
