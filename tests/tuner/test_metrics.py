from __future__ import annotations

import math
from collections.abc import Sequence

from tests.tuner.made_runs import records_of
from tests.tuner.simulation import World, rules
from tuner import events as ev
from tuner.journal import Record
from tuner.metrics import SPECS, Metrics, Spec
from tuner.race import Race, Status
from tuner.slots import Slots

Tags = tuple[tuple[str, str], ...]


class Board:
    """Gauges that remember their last value, by name and tags."""

    def __init__(self) -> None:
        self.values: dict[str, dict[Tags, float]] = {}
        self.sets = 0

    def make(self, spec: Spec) -> Board._Gauge:
        return Board._Gauge(self, spec)

    def value(self, name: str, **tags: str) -> float:
        return self.values[name][tuple(sorted({"run": "r", **tags}.items()))]

    def total(self, name: str) -> float:
        return sum(self.values[name].values())

    class _Gauge:
        def __init__(self, board: Board, spec: Spec) -> None:
            self._board, self._spec = board, spec

        def set(self, value: float, tags: dict[str, str]) -> None:
            assert set(tags) == set(self._spec.tags)  # Ray refuses any other
            self._board.sets += 1
            self._board.values.setdefault(self._spec.name, {})[tuple(sorted(tags.items()))] = value


def hear(records: Sequence[Record], *, since: float = 0.0, blend: float | None = None) -> Board:
    board, race = Board(), Race(rules())
    metrics = Metrics("r", Slots(4), since=since, blend=lambda: blend, make=board.make)
    for record in records:
        race.apply(record.event)
        metrics(record, race)
    return board


def made() -> tuple[World, list[Record]]:
    world = World(Race(rules()), slots=2, fail={("c0", 0): 1, ("c1", 0): 9}).run()
    return world, records_of(world.events, world.race.rules)


def test_every_number_of_the_race_has_a_gauge() -> None:
    world, records = made()
    board, race = hear(records, blend=0.25), world.race
    assert board.total("foldblend_configurations") == len(race.entrants)
    assert board.total("foldblend_fold_epochs") == race.fold_epochs_spent
    assert board.total("foldblend_fold_runs") == len(race.runs)
    assert board.total("foldblend_members") == len(race.members)
    assert board.total("foldblend_failed") == 1
    assert board.value("foldblend_failures") == 4
    assert board.value("foldblend_blended_score", metric="log_loss") == 0.25
    assert board.value("foldblend_higher_is_better", metric="log_loss") == 0
    probes = [run for (_, fold), run in race.runs.items() if fold == 0]
    finished = [run.values[-1] for run in probes if run.status is Status.FINISHED]
    assert board.value("foldblend_best_score", metric="log_loss") == min(finished)
    assert set(board.values) == {spec.name for spec in SPECS}


def test_a_slot_without_a_fold_run_is_idle() -> None:
    events: list[ev.Event] = [ev.Proposed("c0", 0, "alpha", 4), ev.Started("c0", 0)]
    board = hear(records_of(events, rules()))
    assert board.value("foldblend_slots") == 4
    assert board.value("foldblend_idle_slots") == 3
    assert board.value("foldblend_running", backbone="alpha") == 1


def test_a_resumed_search_counts_nothing_twice_and_says_nothing_while_it_replays() -> None:
    _, records = made()
    at_once = hear(records)
    cut = len(records) // 2
    resumed = hear(records, since=records[cut].time)
    assert resumed.values == at_once.values
    assert hear(records, since=math.inf).sets == 0


def test_a_score_that_nobody_has_is_no_series_rather_than_a_nought() -> None:
    board = hear(records_of([ev.Proposed("c0", 0, "alpha", 4)], rules()))
    for name in ("best_score", "backbone_best_score", "blended_score"):
        assert f"foldblend_{name}" not in board.values
    assert board.value("foldblend_members", backbone="alpha") == 0


def test_a_score_that_is_no_number_is_left_out() -> None:
    events: list[ev.Event] = [
        ev.Proposed("c0", 0, "alpha", 1),
        ev.Started("c0", 0),
        ev.Finished("c0", 0, 1, {"log_loss": math.nan}),
    ]
    assert "foldblend_best_score" not in hear(records_of(events, rules())).values


def test_names_are_such_as_prometheus_takes_and_each_says_what_it_is() -> None:
    assert len({spec.name for spec in SPECS}) == len(SPECS)
    for spec in SPECS:
        assert spec.name.isidentifier()
        assert spec.name.startswith("foldblend_")
        assert spec.description.endswith(".")
        assert spec.tags[0] == "run"
