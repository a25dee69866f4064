from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from tests.tuner.made_runs import START, records_of
from tests.tuner.simulation import World, rules
from tuner import events as ev
from tuner.errors import UserError
from tuner.journal import Record
from tuner.progress_line import (
    ProgressLine,
    last_progress,
    parse_progress,
    progress_line,
    wants_lines,
)
from tuner.pruning import PruningRule
from tuner.race import Race
from tuner.slots import Slots


def made_records() -> list[Record]:
    """A second apart."""
    world = World(Race(rules()), slots=2, fail={("c1", 0): 9}).run()
    return records_of(world.events, world.race.rules)


def told(records: Sequence[Record], *, every: float, since: float = 0.0) -> list[str]:
    file, race = io.StringIO(), Race(rules())
    console = Console(file=file, width=40)
    with ProgressLine(console, Slots(2), since=since, every_seconds=every) as line:
        for record in records:
            race.apply(record.event)
            line(record, race)
    return file.getvalue().splitlines()


def test_a_line_every_so_many_seconds_and_one_at_the_end() -> None:
    epochs = [ev.Reported("c0", 0, 1 + number, {"log_loss": 0.5}) for number in range(23)]
    quiet = rules(pruning=PruningRule(False, 1, 2.0, 1.0))
    records = records_of([ev.Proposed("c0", 0, "alpha", 99), ev.Started("c0", 0), *epochs], quiet)
    lines = told(records, every=10.0)
    assert [parse_progress(line)["fold-epochs"].split("/")[0] for line in lines] == [
        *("0", "9", "19"),  # after 0, 10 and 20 seconds
        "23",
    ]


def test_a_decision_that_matters_is_told_at_once() -> None:
    records = made_records()
    matters = [
        one
        for one in records
        if any(isinstance(each, ev.Promote | ev.Complete | ev.GiveUp) for each in one.decisions)
    ]
    lines = told(records, every=1e9)
    assert len(lines) in (len(matters) + 1, len(matters) + 2)  # the first, and perhaps an end
    assert lines[-1] == progress_line(race_at_the_end(), slots=2, seconds=records[-1].time)


def race_at_the_end() -> Race:
    race = Race(rules())
    for record in made_records():
        race.apply(record.event)
    return race


def test_what_an_earlier_process_has_told_is_not_told_again() -> None:
    records = made_records()
    assert told(records, every=0.0, since=records[-1].time + 1) == []
    assert len(told(records, every=0.0, since=records[-3].time)) == 3


def test_a_line_is_one_line_however_narrow_the_terminal() -> None:
    assert all(len(line) > 80 for line in told(made_records(), every=0.0))


def test_a_line_can_be_read_by_a_program() -> None:
    race = Race(rules())
    for number in range(2):
        race.apply(ev.Proposed(f"c{number}", number, "alpha", 4))
        race.apply(ev.Started(f"c{number}", 0))
    metrics = {
        "log_loss": 0.5,
        "seconds": 10.0,
        "images_per_second": 420.2,
        "gpu_memory_bytes": 1.5 * 2**30,
    }
    race.apply(ev.Reported("c0", 0, 1, metrics))
    race.apply(ev.Finished("c1", 0, 4, metrics))
    line = progress_line(race, slots=4, seconds=START, blend=0.391)
    parts = parse_progress(line)
    assert parts.pop("time") == line[:8]
    assert parts.pop("left")
    assert parts == {
        "configurations": "2/9",
        "fold runs": "1",
        "fold-epochs": parts["fold-epochs"],
        "pruned": "0",
        "members": "0/3",
        "best": "0.5000",
        "blend": "0.3910",
        "slots": "1/4",
        "images/s": "420",
        "GiB GPU memory": "1.5",
    }


def test_what_nobody_knows_yet_is_left_out() -> None:
    parts = parse_progress(progress_line(Race(rules()), slots=1, seconds=START))
    assert not {"best", "blend", "images/s", "GiB GPU memory", "left", "failures"} & set(parts)


def test_failures_are_told() -> None:
    race = race_at_the_end()
    assert parse_progress(progress_line(race, slots=1, seconds=START))["failures"] == "3"


def test_the_last_line_is_found_among_other_output() -> None:
    first, last = (
        progress_line(Race(rules()), slots=1, seconds=START + later) for later in (0, 60)
    )
    assert last_progress(f"note: x\n{first}\n{last}\nerror: no more room\n") == last
    assert last_progress("note: x\n12:00:00 nothing of ours\n") is None
    assert last_progress("") is None


def test_another_line_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a progress line, got 'x'"):
        parse_progress("x")


@pytest.mark.parametrize(("value", "wanted"), [("lines", True), ("", False), (None, False)])
def test_lines_are_for_those_who_ask(
    monkeypatch: pytest.MonkeyPatch, value: str | None, wanted: bool
) -> None:
    monkeypatch.delenv("FOLDBLEND_PROGRESS", raising=False)
    if value is not None:
        monkeypatch.setenv("FOLDBLEND_PROGRESS", value)
    assert wants_lines() is wanted


def test_a_wish_without_meaning_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDBLEND_PROGRESS", "dots")
    with pytest.raises(UserError, match="FOLDBLEND_PROGRESS=dots: expected lines"):
        wants_lines()


def test_the_end_is_told_once_more_where_the_blend_has_come_by_then() -> None:
    file, race, blend = io.StringIO(), Race(rules()), [None, 0.25]
    line = ProgressLine(Console(file=file), Slots(1), since=0.0, blend=lambda: blend[0])
    with line:
        for record in made_records():
            race.apply(record.event)
            line(record, race)
        blend.reverse()
    last = file.getvalue().splitlines()[-2:]
    assert ["blend" in one for one in last] == [False, True]
    assert last[1].replace(" · blend 0.2500", "") == last[0]
