"""A run read from its directory: the race as its journal tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from search_spaces.config import RunConfig
from trainables.run_data import RunRecord, read_record
from tuner import events as ev
from tuner.errors import UserError
from tuner.journal import Journal, Record
from tuner.race import Race
from tuner.rules import rules_of
from tuner.run_directory import RunDirectory, is_searched


@dataclass(frozen=True)
class StoredRun:
    """`raw`: run.yaml as it stands; `configurations`: by config_id, as plain values."""

    directory: RunDirectory
    record: RunRecord
    raw: Mapping[str, Any]
    records: tuple[Record, ...]
    race: Race
    configurations: Mapping[str, Mapping[str, Any]]

    @property
    def config(self) -> RunConfig:
        return self.record.config

    def seconds(self, now: float) -> float:
        """Wall clock spent searching, pauses left out; up to `now` (seconds since the epoch)
        where a search is at it."""
        spent = spent_seconds(self.records)
        if self.records and is_searched(self.directory):
            spent += max(0.0, now - self.records[-1].time)
        return spent


def spent_seconds(records: Sequence[Record]) -> float:
    """Wall clock during which the search was running: the time between records, without the
    pause before a `Resumed`."""
    return sum(
        after.time - before.time
        for before, after in pairwise(records)
        if not isinstance(after.event, ev.Resumed)
    )


def read_run(path: str) -> StoredRun:
    """Works on finished, stopped and running searches. DataError where there is no run."""
    directory = RunDirectory.of(path)
    record, raw = read_record(directory)
    race = Race(rules_of(record.config, _max_epochs(directory, raw)))
    records = tuple(Journal(directory.journal).read())
    for one in records:
        race.apply(one.event)
    return StoredRun(directory, record, raw, records, race, configurations_of(records))


def _max_epochs(directory: RunDirectory, raw: Mapping[str, Any]) -> int:
    try:
        return int(raw["space"]["max_epochs"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{directory.run_yaml}: space.max_epochs is missing or no number; "
            "restore the file, or start a new run"
        ) from error


def configurations_of(records: Sequence[Record]) -> dict[str, Mapping[str, Any]]:
    """Every proposed configuration as plain values, by config_id."""
    return {
        record.event.config_id: record.event.configuration
        for record in records
        if isinstance(record.event, ev.Proposed)
    }
