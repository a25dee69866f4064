"""The blend's log loss computed by others: DuckDB in SQL and Polars in expressions, from the run
directory's Parquet files and the weights in blend.json alone."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ensemble.blend import BlendSettings, fit_blend
from ensemble.files import Location
from ensemble.run import blend_run
from ensemble.store import OofStore, write_predictions
from tests.ensemble.made import made_members, metadata

METHODS = ("equal", "best_single", "convex", "greedy")
FOLDS = 3
SAME = 1e-9


def settings(method: str, **changes: object) -> BlendSettings:
    """Weights of a mean and nothing after it, so that its score is one line of SQL."""
    plain = {"calibrate": False, "calibrate_blend": "none", "bootstrap": 0, "refits": 0}
    return BlendSettings(methods=(method,), explain=False, **(plain | changes))  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory: folds.parquet and an OOF store of five members."""
    members = made_members(seed=11, members=5, rows=240)
    store = OofStore(Location.of(tmp_path))
    for name, member in members.items():
        for fold in range(FOLDS):
            part = member.take(member.folds == fold)
            write_predictions(store.fold_location("oof", name, fold), part, metadata(name))
    first = members["c0"]
    columns = {"id": first.ids, "label": first.labels, "fold": first.folds}
    groups = pa.nulls(first.n_rows, pa.string())
    pq.write_table(pa.table(columns | {"group": groups}), tmp_path / "folds.parquet")
    return tmp_path


def weights_in(run: Path) -> dict[str, float]:
    written = json.loads((run / "blend.json").read_text(encoding="utf-8"))
    return {member["config_id"]: member["weight"] for member in written["members"]}


def by_duckdb(run: Path, weights: dict[str, float]) -> float:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE weights (config_id VARCHAR, weight DOUBLE)")
        connection.executemany("INSERT INTO weights VALUES (?, ?)", list(weights.items()))
        found = connection.execute(
            """
            WITH blended AS (
                SELECT id, sum(weight * p_true::DOUBLE) AS p
                FROM read_parquet(?, hive_partitioning = true) JOIN weights USING (config_id)
                GROUP BY id
            )
            SELECT avg(-ln(greatest(p, 1e-7))) FROM blended
            """,
            [str(run / "oof" / "*" / "*.parquet")],
        ).fetchone()
    assert found is not None
    return float(found[0])


def by_polars(run: Path, weights: dict[str, float]) -> float:
    table = pl.DataFrame({"config_id": list(weights), "weight": list(weights.values())})
    blended = (
        pl.scan_parquet(run / "oof" / "*" / "*.parquet", hive_partitioning=True)
        .join(table.lazy(), on="config_id")
        .group_by("id")
        .agg((pl.col("weight") * pl.col("p_true").cast(pl.Float64)).sum().alias("p"))
    )
    loss = -pl.max_horizontal(pl.col("p"), pl.lit(1e-7)).log().mean()
    return float(blended.select(loss).collect().item())


@pytest.mark.parametrize("method", METHODS)
def test_duckdb_and_polars_find_the_log_loss_of_the_blend(run: Path, method: str) -> None:
    location = Location.of(run)
    blend = blend_run(location, settings(method), n_folds=FOLDS).blend
    weights = weights_in(run)
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-12)
    assert blend.in_sample == pytest.approx(by_duckdb(run, weights), abs=SAME)
    assert blend.in_sample == pytest.approx(by_polars(run, weights), abs=SAME)


@pytest.mark.parametrize("method", METHODS)
def test_whole_probabilities_give_the_same_log_loss(run: Path, method: str) -> None:
    store = OofStore(Location.of(run))
    members = {name: store.read_member(name) for name in store.config_ids()}
    blend = fit_blend(members, metadata().classes, settings(method))
    weights = {member.config_id: member.weight for member in blend.members}
    assert blend.in_sample == pytest.approx(by_duckdb(run, weights), abs=SAME)
    assert blend.in_sample == pytest.approx(by_polars(run, weights), abs=SAME)


def test_duckdb_finds_the_nested_score_in_the_blends_own_predictions(run: Path) -> None:
    usual = BlendSettings(methods=("convex",), bootstrap=0, refits=0, explain=False)
    blend = blend_run(Location.of(run), usual, n_folds=FOLDS).blend
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT avg(-ln(greatest(p_true::DOUBLE, 1e-7))) FROM read_parquet(?)",
            [str(run / "blend_oof.parquet")],
        ).fetchone()
    assert found is not None
    # The file holds float32, the score was computed from it: rounding and no more.
    assert blend.score.value == pytest.approx(found[0], abs=1e-7)


def test_the_certificate_of_the_convex_optimum_is_one_line_of_numpy(run: Path) -> None:
    blend = blend_run(Location.of(run), settings("convex"), n_folds=FOLDS).blend
    weights = weights_in(run)
    wide = pl.read_parquet(run / "oof" / "*" / "*.parquet", hive_partitioning=True).pivot(
        "config_id", index="id", values="p_true"
    )
    members = wide.select(pl.col(name).cast(pl.Float64) for name in weights).to_numpy()
    blended = members @ np.array(list(weights.values()))
    gap = float((members / blended[:, None]).mean(axis=0).max() - 1.0)
    assert blend.certificate == pytest.approx(gap, abs=SAME)
