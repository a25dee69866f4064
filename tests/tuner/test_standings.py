from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tuner.simulation import World, rules
from tests.tuner.test_race import worlds
from tuner import events as ev
from tuner.pruning import PruningRule
from tuner.race import Race, Status
from tuner.standings import backbone_rows, configuration_rows, totals

NO_PRUNING = PruningRule(False, 1, 2.0, 1.0)


@pytest.fixture(scope="module")
def race() -> Race:
    return World(Race(rules()), fail={("c1", 0): 9}).run().race


def test_every_backbone_is_a_row_and_its_counts_add_up(race: Race) -> None:
    rows = backbone_rows(race)
    assert [row.backbone for row in rows] == ["alpha", "beta", "gamma"]
    assert sum(row.proposed for row in rows) == 9
    assert sum(row.members for row in rows) == len(race.members) == 3
    assert sum(row.promoted for row in rows) == 3
    pruned = [key for key, run in race.runs.items() if run.status is Status.PRUNED]
    assert sum(row.pruned for row in rows) == len(pruned) > 0
    assert {row.backbone: row.failed for row in rows} == {"alpha": 0, "beta": 1, "gamma": 0}
    assert sum(row.running for row in rows) == 0


def test_the_best_of_a_backbone_follows_the_metric_s_direction() -> None:
    for higher_is_better, wanted in ((False, 0.3), (True, 0.7)):
        race = Race(rules(higher_is_better=higher_is_better, pruning=NO_PRUNING))
        for name, value in (("c0", 0.3), ("c1", 0.7)):
            race.apply(ev.Proposed(name, len(race.entrants), "alpha", 4))
            race.apply(ev.Started(name, 0))
            race.apply(ev.Finished(name, 0, 4, {"log_loss": value}))
        assert backbone_rows(race)[0].best == wanted


def test_a_backbone_of_which_nothing_finished_has_no_best() -> None:
    race = Race(rules())
    race.apply(ev.Proposed("c0", 0, "alpha", 4))
    race.apply(ev.Started("c0", 0))
    row = backbone_rows(race)[0]
    assert (row.proposed, row.running, row.best) == (1, 1, None)


def test_members_come_first_and_the_best_of_them_on_top(race: Race) -> None:
    rows = configuration_rows(race, {})
    assert len(rows) == 9
    assert {row.config_id for row in rows[:3]} == set(race.members)
    assert [row.state for row in rows[:3]] == ["member"] * 3
    scores = [row.score for row in rows[:3]]
    assert scores == sorted(scores)
    assert all(row.state != "member" for row in rows[3:])


def test_a_member_s_score_is_the_mean_over_its_folds(race: Race) -> None:
    best = configuration_rows(race, {})[0]
    values = [race.runs[best.config_id, fold].metrics["log_loss"] for fold in range(3)]
    assert best.score == pytest.approx(sum(values) / 3)
    assert best.probe == values[0]
    assert (best.folds_done, best.n_folds) == (3, 3)


def test_a_failed_and_a_pruned_configuration_say_why(race: Race) -> None:
    rows = {row.config_id: row for row in configuration_rows(race, {})}
    assert rows["c1"].state == "failed"
    assert rows["c1"].why == "fold 0: out of luck"
    pruned = next(row for row in rows.values() if row.state == "pruned")
    assert "epoch 1: rank" in pruned.why
    assert pruned.score is None
    assert pruned.probe is not None


def test_a_promoted_configuration_that_failed_later_says_on_which_fold() -> None:
    first = World(Race(rules(pruning=NO_PRUNING))).run().race.members[0]
    race = World(Race(rules(pruning=NO_PRUNING)), fail={(first, 1): 9}).run().race
    row = next(row for row in configuration_rows(race, {}) if row.why)
    assert (row.config_id, row.state, row.why) == (first, "failed", "fold 1: out of luck")
    assert row.folds_done == 1


def test_what_kept_its_best_epoch_is_optimistic(race: Race) -> None:
    first, second = race.members[:2]
    kept = {first: {"train": {"keep": "best"}}, second: {"train": {"keep": "last"}}}
    optimistic = {row.config_id for row in configuration_rows(race, kept) if row.optimistic}
    assert optimistic == {first}


def test_before_anything_is_known_the_time_left_is_unknown() -> None:
    race = Race(rules())
    assert totals(race, 2).seconds_left is None
    assert totals(race, 2).fold_epochs_planned == 9 * 4 + 3 * 2 * 4
    race.apply(ev.Proposed("c0", 0, "alpha", 4))
    race.apply(ev.Started("c0", 0))
    assert totals(race, 2).seconds_left is None
    race.apply(ev.Reported("c0", 0, 1, {"log_loss": 0.5, "seconds": 3.0}))
    # 59 fold-epochs to go, 3 s each, on two slots.
    assert totals(race, 2).seconds_left == pytest.approx(59 * 3.0 / 2)
    assert totals(race, None).seconds_left is None


def test_a_race_bounded_by_hours_alone_has_no_plan_until_it_is_over() -> None:
    world = World(Race(rules(configurations=None)))
    steps = world.steps()
    next(steps)
    assert totals(world.race, 1).fold_epochs_planned is None
    assert totals(world.race, 1).seconds_left is None
    world.apply(ev.DeadlinePassed())
    for _ in steps:
        pass
    assert totals(world.race, 1).fold_epochs_planned == world.race.fold_epochs_spent


def test_a_budget_of_fold_epochs_is_the_plan() -> None:
    race = Race(rules(configurations=None, fold_epochs=40))
    assert totals(race, 1).fold_epochs_planned == 40


def test_totals_count_failures_and_what_is_wanted(race: Race) -> None:
    sums = totals(race, 1)
    assert (sums.configurations, sums.configurations_planned) == (9, 9)
    assert (sums.members, sums.members_wanted, sums.running) == (3, 3, 0)
    assert sums.failures == 3
    assert sums.seconds_left == 0.0


@settings(max_examples=40, deadline=None)
@given(worlds)
def test_the_plan_only_shrinks_and_ends_at_what_was_spent(drawn) -> None:
    slots, drawn_rules = drawn
    world = World(Race(drawn_rules), slots)
    plans = [totals(world.race, slots).fold_epochs_planned]
    for _ in world.steps():
        plans.append(totals(world.race, slots).fold_epochs_planned)
    assert plans == sorted(plans, reverse=True)
    assert totals(world.race, slots).fold_epochs_planned == world.race.fold_epochs_spent


@settings(max_examples=40, deadline=None)
@given(worlds, st.sets(st.tuples(st.integers(0, 13), st.integers(0, 4)), max_size=6))
def test_at_the_end_the_plan_is_what_was_spent_whatever_failed(drawn, failing) -> None:
    slots, drawn_rules = drawn
    fail = {(f"c{number}", fold): 9 for number, fold in failing}
    race = World(Race(drawn_rules), slots, fail=fail).run().race
    assert totals(race, slots).fold_epochs_planned == race.fold_epochs_spent


def test_the_place_of_a_promoted_configuration_that_failed_is_planned_again() -> None:
    def run(fail: dict[tuple[str, int], int]) -> list[int | None]:
        world = World(Race(rules(pruning=NO_PRUNING, members=1, configurations=4)), fail=fail)
        return [totals(world.race, 1).fold_epochs_planned for _ in world.steps()]

    plan = 4 * 4 + 2 * 4
    assert set(run({})) == {plan}
    first = World(Race(rules(pruning=NO_PRUNING, members=1, configurations=4))).run()
    # Fold 1 fails before its first epoch: the next one's two folds come instead.
    assert run({(first.race.members[0], 1): 9})[-1] == plan
