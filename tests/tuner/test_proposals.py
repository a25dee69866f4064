from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from search_spaces.config import Configuration, SamplerConfig
from search_spaces.space import Space, Study, load_study
from tests.tuner.make_believe import Search, events_of, small_study, told
from tuner import events as ev
from tuner.proposals import MAX_REPEATS, Proposal, Proposals

BASE = ("experiment=scratch", "data=csv", "data.path=train.csv", "data.images=train")


@pytest.fixture(scope="module")
def study() -> Study:
    return small_study()


@pytest.fixture(scope="module")
def search(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Search:
    done = Search(tmp_path_factory.mktemp("proposals"), study)
    done.run()
    return done


def proposals(
    space: Space, seed: int = 0, startup: int = 5, name: str = "tpe", maximise: bool = False
) -> Proposals:
    sampler = SamplerConfig.model_validate({"name": name, "startup": startup})
    return Proposals(space, sampler, metric="log_loss", maximise=maximise, seed=seed)


def proposed(asked: Proposals, one: Proposal) -> str:
    """Let it count, as the conductor does."""
    configuration = one.configuration
    event = ev.Proposed(
        configuration.config_id,
        len(asked.told),
        configuration.backbone.name,
        configuration.train.epochs,
        configuration.model_dump(mode="json"),
        dict(one.params),
    )
    asked.take_in(event, [])
    return configuration.config_id


def play(
    asked: Proposals, count: int, loss: Callable[[Configuration], float]
) -> list[Configuration]:
    """Ask, finish with `loss`, and so on."""
    seen = []
    for _ in range(count):
        one = asked.ask()
        assert one is not None
        name = proposed(asked, one)
        value = loss(one.configuration)
        asked.take_in(ev.Finished(name, 0, 1, {"log_loss": value}), [])
        seen.append(one.configuration)
    return seen


# --- what Optuna is told ------------------------------------------------------------------------


def test_pruned_trials_are_pruned_with_their_epochs_and_never_complete(search: Search) -> None:
    pruned = [
        decision
        for record in search.records
        for decision in record.decisions
        if isinstance(decision, ev.Prune)
    ]
    assert pruned
    known = told(search)
    for decision in pruned:
        one = known[decision.config_id]
        assert one.state is TrialState.PRUNED
        assert one.value is None
        assert sorted(one.values) == list(range(1, decision.epoch + 1))
    complete = {name for name, one in known.items() if one.state is TrialState.COMPLETE}
    assert complete == {e.config_id for e in events_of(search.records, ev.Finished) if e.fold == 0}


def test_only_the_probe_fold_is_told(search: Search) -> None:
    known = told(search)
    for event in events_of(search.records, ev.Finished):
        if event.fold == 0:
            assert known[event.config_id].value == event.metrics["log_loss"]
            assert sorted(known[event.config_id].values) == [1, 2, 3, 4]


def test_the_study_has_one_trial_per_proposal_in_order(search: Search) -> None:
    conductor = search.proposals()
    for record in search.records:
        conductor.take_in(record.event, list(record.decisions))
    trials = conductor.study.get_trials()
    assert [trial.params for trial in trials] == [one.params for one in conductor.told.values()]
    assert [trial.number for trial in trials] == list(range(len(conductor.told)))
    for trial, one in zip(trials, conductor.told.values(), strict=True):
        assert (trial.state, trial.value) == (one.state, one.value)
        assert trial.intermediate_values == dict(one.values)


@pytest.mark.parametrize(
    "decision",
    [ev.GiveUp("NAME", 0, "boom"), ev.Stop("NAME", 0, "time")],
    ids=lambda decision: type(decision).__name__,
)
def test_a_failed_or_stopped_probe_is_a_failed_trial(study: Study, decision: ev.GiveUp) -> None:
    asked = proposals(study.space)
    one = asked.ask()
    assert one is not None
    name = proposed(asked, one)
    asked.take_in(ev.Reported(name, 0, 1, {"log_loss": 0.5}), [])
    asked.take_in(ev.Failed(name, 0, "boom"), [type(decision)(name, 0, decision.why)])
    assert asked.told[name].state is TrialState.FAIL
    assert dict(asked.told[name].values) == {1: 0.5}


def test_a_failure_on_another_fold_leaves_the_probe_s_result(study: Study) -> None:
    asked = proposals(study.space)
    (configuration,) = play(asked, 1, lambda _: 0.5)
    name = configuration.config_id
    asked.take_in(ev.Failed(name, 2, "boom"), [ev.GiveUp(name, 2, "boom")])
    assert (asked.told[name].state, asked.told[name].value) == (TrialState.COMPLETE, 0.5)


def test_a_retried_trial_is_still_running(study: Study) -> None:
    asked = proposals(study.space)
    one = asked.ask()
    assert one is not None
    name = proposed(asked, one)
    asked.take_in(ev.Failed(name, 0, "boom"), [ev.Retry(name, 0, "try 2")])
    assert asked.told[name].state is TrialState.RUNNING


def test_a_result_that_is_no_number_is_a_failed_trial(study: Study) -> None:
    asked = proposals(study.space)
    (configuration,) = play(asked, 1, lambda _: math.nan)
    assert asked.told[configuration.config_id].state is TrialState.FAIL
    assert asked.ask() is not None


# --- what is proposed ---------------------------------------------------------------------------


def loss_of(configuration: Configuration) -> float:
    """Best at lr 1e-3 and no smoothing, test_resnet half as good as the other."""
    distance = abs(math.log10(configuration.optimizer.lr) + 3.0)
    worse = 0.5 if "resnet" in configuration.backbone.name else 0.0
    return 0.2 + distance + 2.0 * configuration.loss.label_smoothing + worse


def test_the_same_seed_proposes_the_same_and_another_seed_others(study: Study) -> None:
    runs = [play(proposals(study.space, seed), 8, loss_of) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert not {one.config_id for one in runs[0]} & {one.config_id for one in runs[2]}


def test_asking_changes_nothing_until_it_is_proposed(study: Study) -> None:
    asked = proposals(study.space)
    assert asked.ask() == asked.ask()
    assert not asked.told


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 100), running=st.integers(0, 3), finished=st.integers(0, 9))
def test_rebuilt_from_the_events_it_proposes_the_same(
    study: Study, seed: int, running: int, finished: int
) -> None:
    """Also with trials still running, whose parameters of other branches nobody recorded."""
    live, rebuilt = (proposals(study.space, seed, startup=2) for _ in range(2))
    play(live, finished, loss_of)
    for _ in range(running):
        one = live.ask()
        assert one is not None
        proposed(live, one)
    for name, one in live.told.items():
        configuration = study.space.configuration(one.params)
        assert configuration.config_id == name
        proposed(rebuilt, Proposal(configuration, one.params))
        if one.state is TrialState.COMPLETE:
            rebuilt.take_in(ev.Finished(name, 0, 1, {"log_loss": one.value or 0.0}), [])
    assert rebuilt.told == live.told
    assert rebuilt.ask() == live.ask()


def test_a_conditional_space_asks_only_for_what_the_branch_has() -> None:
    space = load_study(
        [
            *BASE,
            *("backbone=choice(test_resnet,test_vit)", "augment=none"),
            *("loss=choice(cross_entropy,focal)", "loss.label_smoothing=0.0"),
        ]
    ).space
    asked = proposals(space)
    seen = play(asked, 20, lambda configuration: configuration.optimizer.lr)
    rows = {row.key: row.condition for row in space.rows()}
    for name, one in zip(asked.told, seen, strict=True):
        focal = any(key.startswith("loss.focal_gamma") for key in asked.told[name].params)
        assert focal == (one.loss.name == "focal" and "loss.focal_gamma" in rows)
    assert {one.loss.name for one in seen} == {"cross_entropy", "focal"}
    assert len({frozenset(one.params) for one in asked.told.values()}) > 1


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_a_tiny_space_is_proposed_whole_and_then_ends_without_a_trace(name: str) -> None:
    space = load_study(
        [
            *BASE,
            *("backbone=choice(test_resnet,test_vit)", "augment=choice(none,light)"),
            *("optimizer.lr=choice(0.001,0.01,0.1)", "loss.label_smoothing=0.0"),
        ]
    ).space
    asked = proposals(space, name=name)
    seen = play(asked, 12, lambda configuration: configuration.optimizer.lr)
    assert len({one.config_id for one in seen}) == 12
    before = dict(asked.told)
    assert asked.ask() is None
    assert asked.told == before
    assert len(asked.study.trials) == 12


def test_a_space_of_one_ends_after_one() -> None:
    space = load_study(
        [
            *BASE,
            "backbone=test_resnet",
            "augment=none",
            "optimizer.lr=0.01",
            "loss.label_smoothing=0.0",
        ]
    ).space
    asked = proposals(space)
    play(asked, 1, lambda _: 0.5)
    assert asked.ask() is None


def test_a_used_up_space_ends_the_search(tmp_path: Path) -> None:
    search = Search(
        tmp_path,
        small_study("optimizer.lr=choice(0.001,0.01)", "loss.label_smoothing=0.0"),
    )
    race = search.run().race
    assert len(race.entrants) == 4
    assert len(events_of(search.records, ev.SpaceExhausted)) == 1
    assert race.members
    assert len(race.entrants) < MAX_REPEATS


def test_tpe_finds_better_configurations_than_its_random_start(study: Study) -> None:
    space = load_study(
        [
            *BASE,
            "backbone=choice(test_resnet,test_efficientnet)",
            "augment=none",
            "optimizer.lr=tag(log,interval(1e-5,1e-1))",
        ]
    ).space
    better = []
    for seed in range(5):
        losses = [loss_of(one) for one in play(proposals(space, seed, 10), 40, loss_of)]
        better.append(sum(losses[:10]) / 10 - sum(losses[-10:]) / 10)
    assert min(better) > 0.2


def test_higher_is_better_is_learned_the_other_way_round() -> None:
    space = load_study(
        [
            *BASE,
            "backbone=test_resnet",
            "augment=none",
            "loss.label_smoothing=0.0",
            "optimizer.lr=tag(log,interval(1e-5,1e-1))",
        ]
    ).space
    rates = [
        math.log10(one.optimizer.lr)
        for one in play(
            proposals(space, 0, 8, maximise=True), 30, lambda one: math.log10(one.optimizer.lr)
        )
    ]
    assert sum(rates[-10:]) / 10 > -2.0
