from __future__ import annotations

from tests.tuner.made_runs import records_of
from tests.tuner.report.made_report import finished_world
from tests.tuner.simulation import rules
from tuner import events as ev
from tuner.race import Race
from tuner.report.spending import FAILED, MEMBER, REPEATED, UNFINISHED, outcome_of, spending_of


def reported(epoch: int, seconds: float) -> ev.Reported:
    return ev.Reported("c0", 0, epoch, {"log_loss": 0.5, "seconds": seconds})


def test_every_fold_epoch_of_the_race_is_spent_once() -> None:
    world = finished_world()
    records = records_of(world.events, world.race.rules)
    spent = spending_of(records, world.race)
    assert spent.fold_epochs == world.race.fold_epochs_spent
    assert spent.seconds == sum(run.seconds for run in world.race.runs.values())
    assert sum(cell.fold_epochs for cell in spent.of(outcome=MEMBER)) == 3 * 3 * 4
    assert spent.wall_seconds == len(records) - 1
    assert set(spent.backbones) == {"alpha", "beta", "gamma"}
    assert outcome_of(world.race, "c1") == FAILED
    pruned = [run for run in world.race.runs.values() if run.status == "pruned"]
    assert spent.spared == sum(4 - run.epoch for run in pruned)
    assert pruned


def test_what_a_kill_cost_is_told_apart() -> None:
    events: list[ev.Event] = [
        ev.Proposed("c0", 0, "alpha", 4),
        ev.Started("c0", 0),
        reported(1, 2.0),
        reported(2, 2.0),
        ev.Resumed(),
        ev.Started("c0", 0),
        reported(2, 3.0),
        reported(3, 2.0),
    ]
    race = Race(rules())
    for event in events:
        race.apply(event)
    spent = spending_of(records_of(events, rules()), race)
    cells = {cell.outcome: (cell.fold_epochs, cell.seconds) for cell in spent.cells}
    assert cells == {UNFINISHED: (3, 6.0), REPEATED: (1, 3.0)}
    assert (spent.resumed, spent.most_at_once) == (1, 1)


def test_fold_runs_side_by_side_are_counted() -> None:
    events: list[ev.Event] = [
        ev.Proposed("c0", 0, "alpha", 4),
        ev.Proposed("c1", 1, "alpha", 4),
        ev.Started("c0", 0),
        ev.Started("c1", 0),
        ev.Failed("c0", 0, "gone", retry=False),
    ]
    race = Race(rules())
    records = records_of(events, rules())
    for event in events:
        race.apply(event)
    assert spending_of(records, race).most_at_once == 2


def test_nothing_is_spent_before_anything_began() -> None:
    spent = spending_of([], Race(rules()))
    assert (spent.cells, spent.fold_epochs, spent.seconds, spent.wall_seconds) == ((), 0, 0, 0)
