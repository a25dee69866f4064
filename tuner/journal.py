"""Every event of the race in order, with what was decided: the truth from which a run resumes.

On a local disk one line of JSON an event, synced before the search goes on; on object stores,
which cannot append, one small file an event. An event and its decisions are one record, so a
kill can never leave one without the other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ensemble.files import Location
from tuner.errors import UserError
from tuner.events import Decision, Event, from_json, to_json

# How many files of an object store are read at once: each waits for the network.
READS_AT_ONCE = 16


@dataclass(frozen=True)
class Record:
    """`time`: seconds since the epoch. `sequence` counts from 0 without gaps."""

    sequence: int
    time: float
    event: Event
    decisions: tuple[Decision, ...] = ()

    def to_line(self) -> str:
        values = {
            "sequence": self.sequence,
            "time": self.time,
            "event": to_json(self.event),
            "decisions": [to_json(decision) for decision in self.decisions],
        }
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str | bytes) -> Record:
        values: dict[str, Any] = json.loads(line)
        decisions = tuple(from_json(decision) for decision in values["decisions"])
        return cls(values["sequence"], values["time"], from_json(values["event"]), decisions)


class Journal:
    """Append-only. One writer at a time (see `run_directory.exclusive`), any number of readers."""

    def __init__(self, folder: Location) -> None:
        self._folder = folder
        self._file = folder / "events.jsonl"
        self._appending = False

    def read(self) -> list[Record]:
        """All complete records in order. A last one that a kill cut short is left out: the search
        goes on from the one before, and writes over it. What cannot be read otherwise is a
        UserError that names the place; a whole last record is never taken for a torn one."""
        records: list[Record] = []
        lines = self._lines()
        for number, (where, line) in enumerate(lines):
            try:
                records.append(Record.from_line(line))
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                # Locally a torn line has no end, and is not among these.
                if number == len(lines) - 1 and not self._folder.is_local:
                    break
                raise UserError(
                    f"{where} cannot be read ({error}); restore it, or start a new run"
                ) from error
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{where} cannot be read ({error}); use the foldblend that wrote it, or start "
                    "a new run"
                ) from error
            if records[-1].sequence != number:
                raise UserError(
                    f"{where}: record {number} is missing, found {records[-1].sequence}; restore "
                    "it, or start a new run"
                )
        return records

    def append(self, record: Record) -> None:
        """Return only when the record would survive a crash of the machine."""
        if not self._folder.is_local:
            name = f"{record.sequence:08d}.json"
            (self._folder / name).write_text(record.to_line())
            return
        path = self._file.local_path
        if not self._appending:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._cut_torn_line()
            self._appending = True
        with path.open("ab") as file:
            _write_whole(file.fileno(), record.to_line().encode() + b"\n", str(path))

    def _lines(self) -> list[tuple[str, bytes]]:
        """Where each record stands, for errors, and what stands there."""
        if not self._folder.is_local:
            return _read_all(self._folder.list())
        if not self._file.exists():
            return []
        # A line without its end was being written when the process died.
        *lines, _torn = self._file.read_bytes().split(b"\n")
        return [(f"{self._file}: line {number}", line) for number, line in enumerate(lines, 1)]

    def _cut_torn_line(self) -> None:
        path = self._file.local_path
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) != len(content):
            os.truncate(path, len(whole))


def _read_all(files: Sequence[Location]) -> list[tuple[str, bytes]]:
    """Each file's name and content, in the order of `files`."""
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        contents = list(pool.map(Location.read_bytes, files))
    return list(zip(map(str, files), contents, strict=True))


def _write_whole(descriptor: int, data: bytes, path: str) -> None:
    """All bytes or none: a disk that fills up in the middle must not leave half a line."""
    start = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError as error:
        os.ftruncate(descriptor, start)
        error.filename = path
        raise


def decisions_of(records: Sequence[Record]) -> list[tuple[Record, Decision]]:
    """Every decision with the record it stands in."""
    return [(record, decision) for record in records for decision in record.decisions]
