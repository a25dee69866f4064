from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tuner.simulation import World, rules, snapshot
from tuner import events as ev
from tuner.promotion import by_rank_each_backbone
from tuner.pruning import PruningRule
from tuner.race import MAX_LOSSES, PROBE_FOLD, Race, Status
from tuner.work import Done, Propose, StartFold, Wait

NO_PRUNING = PruningRule(False, 1, 2.0, 1.0)


def proposed(race: Race, name: str, backbone: str = "alpha") -> None:
    race.apply(ev.Proposed(name, len(race.entrants), backbone, race.rules.max_epochs))


def started(race: Race, name: str, fold: int = PROBE_FOLD) -> None:
    race.apply(ev.Started(name, fold))


def reported(race: Race, name: str, epoch: int, loss: float, fold: int = PROBE_FOLD) -> list:
    return race.apply(ev.Reported(name, fold, epoch, {"log_loss": loss}))


def finished(race: Race, name: str, loss: float, fold: int = PROBE_FOLD) -> list:
    return race.apply(ev.Finished(name, fold, race.rules.max_epochs, {"log_loss": loss}))


def test_a_new_race_asks_for_a_proposal() -> None:
    assert Race(rules()).next_work(1) == Propose()


def test_a_proposed_configuration_starts_on_the_probe_fold() -> None:
    race = Race(rules())
    proposed(race, "c0")
    assert race.next_work(1) == StartFold("c0", PROBE_FOLD)


def test_nothing_is_handed_out_when_every_slot_is_taken() -> None:
    race = Race(rules())
    proposed(race, "c0")
    started(race, "c0")
    assert race.next_work(1) == Wait()
    assert race.next_work(2) == Propose()


def test_a_promoted_configuration_s_folds_come_before_new_configurations() -> None:
    race = Race(rules(configurations=2, members=4))
    proposed(race, "c0")
    started(race, "c0")
    assert [type(one) for one in finished(race, "c0", 0.5)] == [ev.Promote]
    assert race.next_work(1) == StartFold("c0", 1)


def test_a_run_worse_than_its_own_kind_at_a_rung_is_pruned_with_a_reason() -> None:
    race = Race(rules())
    for name, loss in (("c0", 0.3), ("c1", 0.9)):
        proposed(race, name)
        started(race, name)
        decisions = reported(race, name, 1, loss)
    assert isinstance(decisions[0], ev.Prune)
    assert decisions[0].why == "epoch 1: rank 2 of 2 of its kind, 1 go on"
    assert race.runs["c1", 0].status is Status.PRUNED


def test_a_slow_starter_is_not_judged_by_another_backbone() -> None:
    race = Race(rules())
    proposed(race, "c0", "alpha")
    proposed(race, "c1", "beta")
    for name in ("c0", "c1"):
        started(race, name)
    reported(race, "c0", 1, 0.1)
    assert reported(race, "c1", 1, 5.0) == []


def test_backbones_compete_from_the_fraction_of_epochs_that_was_asked_for() -> None:
    race = Race(rules(pruning=PruningRule(True, 1, 2.0, 0.5)))
    proposed(race, "c0", "alpha")
    proposed(race, "c1", "beta")
    for name in ("c0", "c1"):
        started(race, name)
        reported(race, name, 1, 0.5)
    reported(race, "c0", 2, 0.1)
    assert isinstance(reported(race, "c1", 2, 0.2)[0], ev.Prune)


def test_the_other_folds_are_never_pruned() -> None:
    race = Race(rules(configurations=2, members=2))
    for name in ("c0", "c1"):
        proposed(race, name)
        started(race, name)
        reported(race, name, 1, 0.5 if name == "c0" else 0.4)
        finished(race, name, 0.3)
    started(race, "c0", 1)
    assert reported(race, "c0", 1, 99.0, fold=1) == []


def test_higher_is_better_turns_the_comparison_around() -> None:
    race = Race(rules(metric="accuracy", higher_is_better=True))
    for name, value in (("c0", 0.9), ("c1", 0.3)):
        proposed(race, name)
        started(race, name)
        decisions = race.apply(ev.Reported(name, 0, 1, {"accuracy": value}))
    assert isinstance(decisions[0], ev.Prune)


def test_a_failed_run_is_tried_again_and_then_given_up_with_its_error() -> None:
    race = Race(rules(max_failures=1))
    proposed(race, "c0")
    started(race, "c0")
    assert isinstance(race.apply(ev.Failed("c0", 0, "boom"))[0], ev.Retry)
    started(race, "c0")
    decisions = race.apply(ev.Failed("c0", 0, "boom again"))
    assert decisions[0] == ev.GiveUp("c0", 0, "boom again")
    assert race.runs["c0", 0].status is Status.FAILED
    assert race.runs["c0", 0].why == "boom again"


def test_a_fold_run_that_loses_its_machine_again_and_again_is_a_failure_at_last() -> None:
    race = Race(rules(max_failures=0))
    proposed(race, "c0")
    for _ in range(MAX_LOSSES):
        started(race, "c0")
        assert isinstance(race.apply(ev.Failed("c0", 0, "lost", node_lost=True))[0], ev.Retry)
    started(race, "c0")
    assert isinstance(race.apply(ev.Failed("c0", 0, "lost", node_lost=True))[0], ev.GiveUp)


def test_a_failure_that_would_repeat_itself_is_not_tried_again() -> None:
    race = Race(rules())
    proposed(race, "c0")
    started(race, "c0")
    assert isinstance(race.apply(ev.Failed("c0", 0, "nan", retry=False))[0], ev.GiveUp)


def test_the_other_folds_of_a_failed_configuration_are_dropped() -> None:
    race = Race(rules(configurations=2, members=4))
    proposed(race, "c0")
    started(race, "c0")
    finished(race, "c0", 0.5)
    started(race, "c0", 1)
    race.apply(ev.Failed("c0", 1, "nan", retry=False))
    assert race.runs["c0", 2].status is Status.STOPPED
    assert race.next_work(1) == Propose()


def test_a_repeated_report_changes_nothing() -> None:
    race = Race(rules())
    proposed(race, "c0")
    started(race, "c0")
    reported(race, "c0", 1, 0.5)
    before = snapshot(race)
    assert reported(race, "c0", 1, 0.7) == []
    assert snapshot(race) == before


def test_the_same_configuration_cannot_enter_twice() -> None:
    race = Race(rules())
    proposed(race, "c0")
    with pytest.raises(ValueError, match="proposed before"):
        proposed(race, "c0")


def test_after_a_resume_what_was_running_comes_first() -> None:
    race = Race(rules())
    proposed(race, "c0")
    proposed(race, "c1")
    started(race, "c0")
    race.apply(ev.Resumed())
    assert race.next_work(1) == StartFold("c0", 0)
    assert race.in_flight == 0


def test_at_the_deadline_probes_stop_and_promoted_members_are_completed() -> None:
    race = Race(rules(configurations=None, members=1, pruning=NO_PRUNING))
    for name in ("c0", "c1", "c2", "c3", "c4"):
        proposed(race, name)
        started(race, name)
    for name in ("c0", "c1", "c2", "c3"):
        finished(race, name, 0.5)
    race.apply(ev.DeadlinePassed())
    assert isinstance(reported(race, "c4", 1, 0.1)[0], ev.Stop)
    assert race.next_work(1) == StartFold("c0", 1)


def test_a_deadline_before_anything_was_promoted_still_gives_one_member() -> None:
    world = World(Race(rules(configurations=None)))
    steps = world.steps()
    next(steps)
    world.apply(ev.DeadlinePassed())
    for _ in steps:
        pass
    assert len(world.race.members) == 1


def test_an_exhausted_space_ends_the_search_with_members() -> None:
    world = World(Race(rules(configurations=None, members=2)))
    steps = world.steps()
    for _ in range(6):
        next(steps)
    world.apply(ev.SpaceExhausted())
    for _ in steps:
        pass
    assert world.race.next_work(1) == Done()
    assert world.race.members


worlds = st.builds(
    lambda slots, members, configurations, folds, epochs, across: (
        slots,
        rules(
            members=members,
            configurations=configurations,
            n_folds=folds,
            max_epochs=epochs,
            pruning=PruningRule(True, 1, 2.0, across),
        ),
    ),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 14),
    st.integers(2, 5),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.5, 1.0]),
)


@settings(max_examples=60, deadline=None)
@given(worlds)
def test_every_race_ends_with_members_and_within_its_configurations(drawn) -> None:
    slots, drawn_rules = drawn
    world = World(Race(drawn_rules), slots).run()
    race = world.race
    assert race.next_work(slots) == Done()
    assert len(race.entrants) == drawn_rules.configurations
    finished_probes = [
        key for key, run in race.runs.items() if key[1] == 0 and run.status is Status.FINISHED
    ]
    assert len(race.members) == min(drawn_rules.members, len(finished_probes))
    assert world.max_in_flight <= slots
    assert len(set(world.started)) == len(world.started)


@settings(max_examples=30, deadline=None)
@given(worlds)
def test_with_one_of_each_backbone_every_kind_that_finished_has_a_member(drawn) -> None:
    slots, drawn_rules = drawn
    wanted = rules(
        **{
            name: getattr(drawn_rules, name)
            for name in ("pruning", "configurations", "n_folds", "max_epochs")
        },
        members=5,
        promote=by_rank_each_backbone,
    )
    race = World(Race(wanted), slots).run().race
    finished_kinds = {
        race.entrants[name].backbone
        for (name, fold), run in race.runs.items()
        if fold == PROBE_FOLD and run.status is Status.FINISHED
    }
    if slots == 1:
        assert {race.entrants[name].backbone for name in race.members} == finished_kinds
    assert len(race.members) <= 5


@settings(max_examples=60, deadline=None)
@given(worlds, st.integers(0, 80))
def test_a_fold_epoch_budget_is_never_exceeded(drawn, extra) -> None:
    slots, drawn_rules = drawn
    least = drawn_rules.n_folds * drawn_rules.max_epochs
    budgeted = rules(
        **{
            **{name: getattr(drawn_rules, name) for name in ("members", "n_folds", "max_epochs")},
            "pruning": drawn_rules.pruning,
            "configurations": None,
            "fold_epochs": least + extra,
        }
    )
    race = World(Race(budgeted), slots).run().race
    assert race.fold_epochs_spent <= least + extra
    assert race.members


@settings(max_examples=60, deadline=None)
@given(worlds, st.integers(0, 200))
def test_replaying_the_events_gives_the_same_race(drawn, cut) -> None:
    slots, drawn_rules = drawn
    world = World(Race(drawn_rules), slots).run()
    events = world.events[:cut]
    one, other = Race(drawn_rules), Race(drawn_rules)
    for event in events:
        one.apply(event)
        other.apply(ev.from_json(ev.to_json(event)))
    assert snapshot(one) == snapshot(other)


@settings(max_examples=60, deadline=None)
@given(worlds, st.integers(1, 200))
def test_with_one_slot_a_kill_anywhere_changes_nothing_in_the_end(drawn, cut) -> None:
    _, drawn_rules = drawn
    undisturbed = World(Race(drawn_rules), 1).run().race
    first = World(Race(drawn_rules), 1)
    for _, _step in zip(range(cut), first.steps(), strict=False):
        pass
    race = Race(drawn_rules)
    for event in first.events:
        race.apply(event)
    race.apply(ev.Resumed())
    resumed = World(race, 1).run().race
    assert resumed.members == undisturbed.members
    assert resumed.runs == undisturbed.runs


@settings(max_examples=40, deadline=None)
@given(worlds, st.data())
def test_failures_never_end_or_hang_the_race(drawn, data) -> None:
    slots, drawn_rules = drawn
    fail = data.draw(
        st.dictionaries(
            st.tuples(
                st.integers(0, drawn_rules.configurations - 1).map(lambda n: f"c{n}"),
                st.integers(0, drawn_rules.n_folds - 1),
            ),
            st.integers(1, 4),
            max_size=8,
        )
    )
    world = World(Race(drawn_rules), slots, fail=fail).run()
    race = world.race
    assert race.next_work(slots) == Done()
    given_up = {one.config_id for one in world.decisions if isinstance(one, ev.GiveUp)}
    assert not given_up & set(race.members)
    for run in race.runs.values():
        assert run.is_over
        if run.status is Status.FAILED:
            assert run.why == "out of luck"
