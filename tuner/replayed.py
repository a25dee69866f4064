"""A run read from its directory: the race as its journal tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.config import RunConfig
from trainables.run_data import RunRecord, read_record
from tuner import events as ev
from tuner.journal import Journal, Record
from tuner.race import Race
from tuner.rules import rules_of
from tuner.run_directory import RunDirectory


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

    @property
    def seconds(self) -> float:
        """Wall clock from first to last record, pauses included."""
        return self.records[-1].time - self.records[0].time if self.records else 0.0


def read_run(path: str) -> StoredRun:
    """Works on finished, stopped and running searches. DataError where there is no run."""
    directory = RunDirectory.of(path)
    record, raw = read_record(directory)
    race = Race(rules_of(record.config, int(raw["space"]["max_epochs"])))
    records = tuple(Journal(directory.journal).read())
    for one in records:
        race.apply(one.event)
    return StoredRun(directory, record, raw, records, race, configurations_of(records))


def configurations_of(records: tuple[Record, ...]) -> dict[str, Mapping[str, Any]]:
    return {
        record.event.config_id: record.event.configuration
        for record in records
        if isinstance(record.event, ev.Proposed)
    }
