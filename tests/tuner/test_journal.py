from __future__ import annotations

import errno
import os
import threading
import uuid
from collections.abc import Iterator

import pytest

from ensemble.files import Location
from tuner import events as ev
from tuner.errors import UserError
from tuner.journal import Journal, Record, decisions_of


def record(number: int) -> Record:
    event = ev.Reported("c1", 0, number + 1, {"log_loss": 1.0 / (number + 1)})
    decisions = (ev.Prune("c1", 0, number + 1, "worse"),) if number == 2 else ()
    return Record(number, 1000.0 + number, event, decisions)


def write(folder, count: int = 3) -> list[Record]:
    journal = Journal(Location.of(str(folder)))
    records = [record(number) for number in range(count)]
    for one in records:
        journal.append(one)
    return records


def test_what_was_appended_is_read_in_order(tmp_path) -> None:
    records = write(tmp_path)
    assert Journal(Location.of(tmp_path)).read() == records


def test_a_journal_that_does_not_exist_is_empty(tmp_path) -> None:
    assert Journal(Location.of(tmp_path / "none")).read() == []


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_line_cut_short_by_a_kill_is_dropped_and_overwritten(tmp_path, cut) -> None:
    records = write(tmp_path)
    file = tmp_path / "events.jsonl"
    os.truncate(file, file.stat().st_size - cut)
    journal = Journal(Location.of(tmp_path))
    assert journal.read() == records[:2]
    journal.append(records[2])
    assert Journal(Location.of(tmp_path)).read() == records


def test_damage_in_the_middle_is_an_error_that_names_the_line(tmp_path) -> None:
    write(tmp_path)
    file = tmp_path / "events.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1][:20], lines[2]]) + "\n")
    with pytest.raises(UserError, match="line 2 cannot be read"):
        Journal(Location.of(tmp_path)).read()


def torn(record_line: str) -> str:
    return record_line[: len(record_line) // 2]


def of_a_newer_version(record_line: str) -> str:
    return record_line.replace('"type":"Reported"', '"type":"Teleported"')


def test_a_whole_last_line_that_cannot_be_read_is_an_error_and_stays(tmp_path) -> None:
    """Appending after it would leave a journal that nobody reads any more."""
    write(tmp_path)
    file = tmp_path / "events.jsonl"
    for spoil, advice in (
        (torn, "restore it"),
        (of_a_newer_version, "does not know.*use the foldblend that wrote it"),
    ):
        *before, last = file.read_text().splitlines()
        spoilt = "\n".join([*before, spoil(last)]) + "\n"
        file.write_text(spoilt)
        with pytest.raises(UserError, match=rf"events.jsonl: line 3 cannot be read.*{advice}"):
            Journal(Location.of(tmp_path)).read()
        assert file.read_text() == spoilt
        file.write_text("\n".join([*before, last]) + "\n")


def test_bytes_that_are_no_text_are_an_error_that_names_the_line(tmp_path) -> None:
    write(tmp_path)
    file = tmp_path / "events.jsonl"
    file.write_bytes(file.read_bytes().replace(b"log_loss", b"log_los\xff"))
    with pytest.raises(UserError, match="line 1 cannot be read"):
        Journal(Location.of(tmp_path)).read()


@pytest.fixture
def store() -> Iterator[Location]:
    """An object store, of fsspec's kind."""
    place = Location.of(f"memory://journals/{uuid.uuid4().hex}")
    yield place
    place.delete()


def test_on_an_object_store_a_torn_last_file_is_dropped_and_written_over(store: Location) -> None:
    records = write(store)
    last = store / "00000002.json"
    last.write_text(torn(last.read_text()))
    journal = Journal(store)
    assert journal.read() == records[:2]
    journal.append(records[2])
    assert Journal(store).read() == records


def test_on_an_object_store_a_last_event_of_a_newer_version_is_an_error(store: Location) -> None:
    write(store)
    last = store / "00000002.json"
    last.write_text(of_a_newer_version(last.read_text()))
    with pytest.raises(UserError, match=r"00000002\.json cannot be read.*does not know"):
        Journal(store).read()


def test_on_an_object_store_damage_in_the_middle_is_an_error(store: Location) -> None:
    write(store)
    (store / "00000001.json").write_text("{")
    with pytest.raises(UserError, match=r"00000001\.json cannot be read.*restore it"):
        Journal(store).read()


def test_files_of_an_object_store_are_read_at_once_and_kept_in_order(
    store: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = write(store, 4)
    later, really = threading.Event(), Location.read_bytes

    def read(file: Location) -> bytes:
        """The first file arrives after the last."""
        if file.name == "00000000.json":
            assert later.wait(timeout=60), "one file was read after another"
        content = really(file)
        if file.name == "00000003.json":
            later.set()
        return content

    monkeypatch.setattr(Location, "read_bytes", read)
    assert Journal(store).read() == records


def test_a_missing_record_is_an_error(tmp_path) -> None:
    write(tmp_path)
    file = tmp_path / "events.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[2]]) + "\n")
    with pytest.raises(UserError, match="record 1 is missing"):
        Journal(Location.of(tmp_path)).read()


def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path, monkeypatch) -> None:
    records = write(tmp_path, 2)
    real = os.write

    def half(descriptor: int, data: bytes) -> int:
        if len(data) > 40:
            return real(descriptor, data[:40])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", lambda fd, data: half(fd, bytes(data)[:60]))
    with pytest.raises(OSError) as caught:
        Journal(Location.of(tmp_path)).append(record(2))
    assert caught.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(caught.value.filename)
    monkeypatch.undo()
    assert Journal(Location.of(tmp_path)).read() == records
    assert (tmp_path / "events.jsonl").read_bytes().endswith(b"\n")


def test_decisions_stand_with_their_records(tmp_path) -> None:
    found = decisions_of(write(tmp_path))
    assert [(one.sequence, decision.why) for one, decision in found] == [(2, "worse")]
