from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from ensemble.files import Location
from tests.tuner.made_runs import START, records_of
from tests.tuner.simulation import World, rules
from tuner import events as ev
from tuner import progress
from tuner.journal import Record
from tuner.progress import (
    DecisionLog,
    LiveTable,
    describe_decision,
    describe_event,
    described,
    stamp,
    steps,
)
from tuner.race import Race
from tuner.slots import Slots


def terminal() -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(force_terminal=True, file=screen, width=120, height=30), screen


def first_record(race: Race) -> Record:
    event = ev.Proposed("c0", 0, "alpha", 4)
    return Record(0, START, event, tuple(race.apply(event)))


def test_off_a_terminal_the_live_table_draws_nothing() -> None:
    file, race = io.StringIO(), Race(rules())
    with LiveTable(Console(file=file), slots=Slots(1)) as table:
        table(first_record(race), race)
    assert file.getvalue() == ""


def test_on_a_terminal_the_live_table_shows_the_race() -> None:
    console, screen = terminal()
    race = Race(rules())
    with LiveTable(console, slots=Slots(1)) as table:
        table(first_record(race), race)
    assert "alpha" in screen.getvalue()
    assert "configurations" in screen.getvalue()


def test_it_is_drawn_no_more_often_than_a_person_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 1e6)
    console, screen = terminal()
    race = Race(rules())
    with LiveTable(console, slots=Slots(1)) as table:
        table(first_record(race), race)
        once = screen.getvalue()
        race.apply(ev.Proposed("c1", 1, "beta", 4))
        table(Record(1, START, ev.SlotIdle()), race)
        assert screen.getvalue() == once


def test_a_live_table_that_was_left_draws_no_more() -> None:
    console, screen = terminal()
    race = Race(rules())
    with LiveTable(console, slots=Slots(1)) as table:
        pass
    before = screen.getvalue()
    table(first_record(race), race)
    assert screen.getvalue() == before


def hear(log: DecisionLog, records: list[Record]) -> None:
    race = Race(rules())
    for record in records:
        race.apply(record.event)
        log(record, race)


def made_records() -> list[Record]:
    world = World(Race(rules()), fail={("c0", 0): 1, ("c1", 0): 9}).run()
    return records_of(world.events, world.race.rules)


def test_the_log_has_a_line_in_words_for_every_decision(tmp_path: Path) -> None:
    records = made_records()
    hear(DecisionLog(Location.of(tmp_path / "search.log")), records)
    lines = (tmp_path / "search.log").read_text().splitlines()
    assert len(lines) == sum(len(described(record)) for record in records)
    told = "\n".join(lines)
    for phrase in (
        "c0 proposed: alpha",
        "c0 fold 0 failed: out of luck",
        "c0 fold 0 queued again: try 2: out of luck",
        "c1 fold 0 given up: out of luck",
        "promoted: rank 1 of",
        "is a member",
        "pruned: epoch 1: rank",
        "finished: log_loss 0.",
    ):
        assert phrase in told, phrase
    assert lines[0].startswith(time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(START)))


def test_a_resumed_search_does_not_repeat_what_was_logged(tmp_path: Path) -> None:
    place, records = Location.of(tmp_path / "search.log"), made_records()
    cut = len(records) // 2
    hear(DecisionLog(place), records[:cut])
    # The next process hears everything again while it replays the journal.
    hear(DecisionLog(place, since=records[cut].time), records)
    once = Location.of(tmp_path / "once.log")
    hear(DecisionLog(once), records)
    assert place.read_text() == once.read_text()


def test_on_an_object_store_which_cannot_append_there_is_no_log() -> None:
    place = Location.of("memory://progress/search.log")
    hear(DecisionLog(place), made_records())
    assert not place.exists()


def test_a_log_takes_any_letter(tmp_path: Path) -> None:
    log = DecisionLog(Location.of(tmp_path / "search.log"))
    race = Race(rules())
    race.apply(ev.Proposed("c0", 0, "alpha", 4))
    log(Record(1, START, ev.Failed("c0", 0, "Größe 日本")), race)
    assert "Größe 日本" in (tmp_path / "search.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (ev.Started("c0", 0), None),
        (ev.Reported("c0", 0, 1, {"log_loss": 0.5}), None),
        (ev.SlotIdle(), None),
        (ev.SpaceExhausted(), "the search space holds no other configuration"),
        (ev.DeadlinePassed(), "the hours of the budget are over"),
        (ev.Resumed(), "the search goes on from its journal"),
        (
            ev.Finished("c0", 1, 4, {"accuracy": 0.9, "log_loss": 0.25, "lr": 1e-3}),
            "c0 fold 1 finished: log_loss 0.2500, accuracy 0.9000",
        ),
    ],
)
def test_an_event_is_told_where_it_matters_alone(event: ev.Event, words: str | None) -> None:
    assert describe_event(event) == words


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (ev.Prune("c0", 0, 2, "rank 3 of 4"), "c0 fold 0 pruned: rank 3 of 4"),
        (ev.Promote("c0", "rank 1 of 4"), "c0 promoted: rank 1 of 4"),
        (ev.Complete("c0"), "c0 is a member"),
        (ev.Retry("c0", 1, "try 2: x"), "c0 fold 1 queued again: try 2: x"),
        (ev.GiveUp("c0", 1, "x"), "c0 fold 1 given up: x"),
        (ev.Stop("c0", 1, "no hours left"), "c0 fold 1 stopped: no hours left"),
    ],
)
def test_every_decision_has_words(decision: ev.Decision, words: str) -> None:
    assert describe_decision(decision) == words


def test_a_record_is_its_event_and_then_what_was_decided() -> None:
    record = Record(0, START, ev.Failed("c0", 0, "x"), (ev.GiveUp("c0", 0, "x"),))
    assert described(record) == ["c0 fold 0 failed: x", "c0 fold 0 given up: x"]
    assert len(stamp(record)) == len("2026-01-31 12:00:00")


def test_steps_are_bars_on_a_terminal_and_nothing_elsewhere() -> None:
    console, screen = terminal()
    silent = io.StringIO()
    for one in (console, Console(file=silent)):
        with steps(one) as step:
            update = step("decoding images")
            update(1, 4)
            update(4, 4)
    assert "decoding images" in screen.getvalue()
    assert "4/4" in screen.getvalue()
    assert silent.getvalue() == ""


def test_the_log_has_the_whole_traceback_of_a_failure(tmp_path: Path) -> None:
    log = tmp_path / "search.log"
    failed = ev.Failed("c1", 0, "RuntimeError: boom", traceback="Traceback:\n  line 3\n")
    DecisionLog(Location.of(log))(Record(0, 1000.0, failed), Race(rules()))
    assert "c1 fold 0 failed: RuntimeError: boom\n    Traceback:\n      line 3\n" in log.read_text()
