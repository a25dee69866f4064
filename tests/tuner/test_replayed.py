from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.tuner.made_runs import START, made_run, made_world, records_of
from tests.tuner.simulation import snapshot
from trainables.errors import DataError
from tuner import events as ev
from tuner import replayed
from tuner.errors import UserError
from tuner.journal import Journal, Record
from tuner.race import Race
from tuner.replayed import configurations_of, read_run, spent_seconds
from tuner.work import Done


def test_a_finished_run_is_read_with_all_its_members(tmp_path: Path) -> None:
    world = made_world().run()
    stored = read_run(str(made_run(tmp_path, world).root))
    assert stored.race.members == world.race.members
    assert snapshot(stored.race) == snapshot(world.race)
    assert stored.race.next_work(1) == Done()
    assert len(stored.records) == len(world.events)
    assert stored.config.name == "made"
    assert set(stored.configurations) == set(world.race.entrants)


def test_a_running_search_is_read_as_far_as_it_came(tmp_path: Path) -> None:
    world = made_world()
    for _, _step in zip(range(5), world.steps(), strict=False):
        pass
    stored = read_run(str(made_run(tmp_path, world).root))
    assert snapshot(stored.race) == snapshot(world.race)
    assert stored.race.in_flight


def test_a_run_before_its_first_event_is_an_empty_race(tmp_path: Path) -> None:
    stored = read_run(str(made_run(tmp_path, made_world()).root))
    assert stored.records == ()
    assert not stored.race.entrants
    assert stored.seconds(START) == 0.0


def test_a_last_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    world = made_world().run()
    run = made_run(tmp_path, world)
    file = tmp_path / "journal" / "events.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    stored = read_run(str(run.root))
    assert len(stored.records) == len(world.events) - 1
    again = Race(world.race.rules)
    for event in world.events[:-1]:
        again.apply(event)
    assert snapshot(stored.race) == snapshot(again)


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run directory"):
        read_run(str(tmp_path))


@pytest.mark.parametrize("space", [None, {}, {"max_epochs": "many"}])
def test_a_damaged_run_file_is_named(tmp_path: Path, space: object) -> None:
    run = made_run(tmp_path, made_world())
    content = yaml.safe_load(run.run_yaml.read_text())
    run.run_yaml.write_text(yaml.safe_dump(content | {"space": space}))
    with pytest.raises(UserError, match=r"run\.yaml: space\.max_epochs is missing"):
        read_run(str(tmp_path))


def test_time_runs_on_only_while_a_search_is_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = made_world().run()
    made_run(tmp_path, world)
    spent = len(world.events) - 1.0
    end = START + spent
    assert read_run(str(tmp_path)).seconds(end + 50.0) == spent
    monkeypatch.setattr(replayed, "is_searched", lambda run: True)
    assert read_run(str(tmp_path)).seconds(end + 50.0) == spent + 50.0


def test_the_pause_before_a_resume_is_no_time_spent(tmp_path: Path) -> None:
    run = made_run(tmp_path, made_world())
    times = ((0.0, ev.SlotIdle()), (10.0, ev.SlotIdle()), (900.0, ev.Resumed()))
    for number, (at, event) in enumerate((*times, (905.0, ev.SlotIdle()))):
        Journal(run.journal).append(Record(number, START + at, event))
    stored = read_run(str(run.root))
    assert stored.seconds(START + 10_000.0) == spent_seconds(stored.records) == 15.0


def test_configurations_are_those_that_were_proposed() -> None:
    world = made_world()
    world.apply(ev.Proposed("c0", 0, "alpha", 4, {"train": {"epochs": 4}}))
    world.apply(ev.Started("c0", 0))
    records = records_of(world.events, world.race.rules)
    assert configurations_of(records) == {"c0": {"train": {"epochs": 4}}}
