from __future__ import annotations

import errno
import json
from pathlib import Path

import pandas as pd
import polars
import pytest

from ensemble.files import Location
from tests.tuner.simulation import World, rules
from tuner import events as ev
from tuner.journal import Record
from tuner.ledger import LedgerKeeper, fold_run_table, write_fold_runs
from tuner.race import Race
from tuner.run_directory import RunDirectory

DTYPES = {
    "config_id": "str",
    "fold": "int16",
    "number": "int32",
    "backbone": "str",
    "status": "str",
    "why": "str",
    "promoted": "bool",
    "epochs": "int32",
    "epochs_planned": "int32",
    "failures": "int32",
    "seconds": "float64",
    "node": "str",
    "log_loss": "float64",
    "accuracy": "float64",
    "macro_f1": "float64",
    "train_loss": "float64",
    "images_per_second": "float64",
    "micro_batch": "float64",
    "loader_workers": "float64",
    "gpu_memory_bytes": "float64",
    "keep": "str",
    "configuration": "str",
}
KEEPS_BEST = {"train": {"keep": "best"}, "backbone": {"name": "alpha"}}


@pytest.fixture(scope="module")
def race() -> Race:
    """Nine configurations; c0 fails once on fold 0, c1 for good."""
    return World(Race(rules()), fail={("c0", 0): 1, ("c1", 0): 9}).run().race


@pytest.fixture(scope="module")
def table(race: Race) -> pd.DataFrame:
    return fold_run_table(race, {"c0": KEEPS_BEST})


def row(table: pd.DataFrame, config_id: str, fold: int) -> pd.Series:
    found = table[(table["config_id"] == config_id) & (table["fold"] == fold)]
    assert len(found) == 1
    return found.iloc[0]


def test_every_fold_run_is_one_row(race: Race, table: pd.DataFrame) -> None:
    keys = list(zip(table["config_id"], table["fold"].tolist(), strict=True))
    assert sorted(keys) == sorted(race.runs)


def test_columns_and_types_are_the_same_with_rows_and_without(table: pd.DataFrame) -> None:
    for one in (table, fold_run_table(Race(rules()), {})):
        wanted = pd.DataFrame(columns=list(DTYPES)).astype(DTYPES).dtypes
        assert list(one.columns) == list(DTYPES)
        assert one.dtypes.to_dict() == wanted.to_dict()


def test_a_failed_configuration_is_a_row_with_its_error_and_no_score(table: pd.DataFrame) -> None:
    failed = row(table, "c1", 0)
    assert (failed["status"], failed["why"], failed["failures"]) == ("failed", "out of luck", 3)
    assert failed["epochs"] == 0
    assert pd.isna(failed["log_loss"])


def test_a_pruned_configuration_is_a_row_with_the_reason_and_its_last_score(
    race: Race, table: pd.DataFrame
) -> None:
    pruned = table[table["status"] == "pruned"]
    assert len(pruned)
    assert pruned["why"].str.contains("epoch 1: rank").all()
    assert (pruned["epochs"] < pruned["epochs_planned"]).all()
    for _, one in pruned.iterrows():
        assert one["log_loss"] == race.runs[one["config_id"], 0].values[-1]


def test_a_run_that_was_tried_again_keeps_its_count_of_failures(table: pd.DataFrame) -> None:
    assert row(table, "c0", 0)["failures"] == 1


def test_the_configuration_is_json_and_the_kept_epoch_a_column(table: pd.DataFrame) -> None:
    chosen = row(table, "c0", 0)
    assert json.loads(chosen["configuration"]) == KEEPS_BEST
    assert chosen["keep"] == "best"
    assert set(table.loc[table["config_id"] != "c0", "keep"]) == {"last"}


def test_other_programs_read_the_same_table(table: pd.DataFrame, tmp_path: Path) -> None:
    run = RunDirectory.of(str(tmp_path))
    write_fold_runs(run, table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "fold_runs.parquet"), table)
    by_polars = polars.read_parquet(tmp_path / "fold_runs.parquet")
    assert by_polars.columns == list(DTYPES)
    assert by_polars["why"].to_list() == table["why"].tolist()
    assert by_polars["seconds"].sum() == table["seconds"].sum()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def reported(race: Race, epoch: int) -> Record:
    event = ev.Reported("c0", 0, epoch, {"log_loss": 0.5})
    return Record(epoch, 0.0, event, tuple(race.apply(event)))


def keeper_of(tmp_path: Path) -> tuple[LedgerKeeper, Race, Clock]:
    race, clock = Race(rules()), Clock()
    keeper = LedgerKeeper(RunDirectory.of(str(tmp_path)), every_seconds=5.0, clock=clock)
    event = ev.Proposed("c0", 0, "alpha", 4, KEEPS_BEST)
    race.apply(event)
    keeper(Record(0, 0.0, event), race)
    race.apply(ev.Started("c0", 0))
    return keeper, race, clock


def test_the_ledger_is_written_no_more_often_than_asked(tmp_path: Path) -> None:
    keeper, race, clock = keeper_of(tmp_path)
    file, seen = tmp_path / "fold_runs.parquet", []
    for epoch, now in ((1, 104.0), (2, 105.0), (3, 109.0)):
        clock.now = now
        keeper(reported(race, epoch), race)
        seen.append(int(pd.read_parquet(file)["epochs"][0]) if file.exists() else None)
    assert seen == [None, 2, 2]


def test_the_ledger_knows_the_configurations_it_heard_of(tmp_path: Path) -> None:
    keeper, race, clock = keeper_of(tmp_path)
    clock.now = 200.0
    keeper(reported(race, 1), race)
    assert pd.read_parquet(tmp_path / "fold_runs.parquet")["keep"].tolist() == ["best"]


def test_a_disk_error_reaches_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Location, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    keeper, race, clock = keeper_of(tmp_path)
    clock.now = 200.0
    monkeypatch.setattr(Location, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        keeper(reported(race, 1), race)


def test_where_the_last_epoch_ran_is_a_column() -> None:
    race = Race(rules())
    for number in range(2):
        race.apply(ev.Proposed(f"c{number}", number, "alpha", 4))
        race.apply(ev.Started(f"c{number}", 0))
    for epoch, node in ((1, "10.0.0.2"), (2, "10.0.0.3")):
        race.apply(ev.Reported("c0", 0, epoch, {"log_loss": 0.5}, node))
    table = fold_run_table(race, {})
    assert [row(table, one, 0)["node"] for one in ("c0", "c1")] == ["10.0.0.3", ""]
