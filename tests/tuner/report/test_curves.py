from __future__ import annotations

import pytest

from tests.tuner.made_runs import records_of
from tests.tuner.simulation import rules
from tuner import events as ev
from tuner.journal import Record
from tuner.pruning import PruningRule
from tuner.race import Race
from tuner.report.curves import Curve, by_backbone, curves_of, is_promoted


def reported(name: str, epoch: int, loss: float, fold: int = 0) -> ev.Reported:
    return ev.Reported(name, fold, epoch, {"log_loss": loss, "seconds": 1.0})


def finished(name: str, epoch: int, loss: float, fold: int = 0) -> ev.Finished:
    return ev.Finished(name, fold, epoch, {"log_loss": loss, "seconds": 1.0})


EVENTS = [
    ev.Proposed("good", 0, "alpha", 2),
    ev.Proposed("bad", 1, "alpha", 2),
    ev.Proposed("broken", 2, "beta", 2),
    ev.Started("good", 0),
    reported("good", 1, 0.5),
    ev.Started("bad", 0),
    reported("bad", 1, 0.9),
    ev.Started("broken", 0),
    ev.Failed("broken", 0, "out of memory"),
    ev.Started("broken", 0),
    reported("broken", 1, 0.7),
    ev.Failed("broken", 0, "out of memory"),
    finished("good", 2, 0.3),
    ev.Started("good", 1),
    ev.Resumed(),
    ev.Started("good", 1),
    finished("good", 2, 0.35, fold=1),
]


@pytest.fixture(scope="module")
def curves() -> dict[tuple[str, int], Curve]:
    given = rules(
        configurations=3,
        members=1,
        n_folds=2,
        max_epochs=2,
        max_failures=1,
        pruning=PruningRule(True, 1, 2.0, 1.0),
    )
    records = records_of(EVENTS, given)
    race = Race(given)
    for record in records:
        race.apply(record.event)
    return {(one.config_id, one.fold): one for one in curves_of(records, race)}


def words(curve: Curve) -> list[tuple[str, int]]:
    return [(one.word, one.epoch) for one in curve.happenings]


def test_a_promoted_configuration_has_its_mark_where_it_was_earned(
    curves: dict[tuple[str, int], Curve],
) -> None:
    probe = curves["good", 0]
    assert (probe.epochs, probe.values) == ((1, 2), (0.5, 0.3))
    assert words(probe) == [("promoted", 2), ("finished", 2)]
    assert probe.member
    assert is_promoted(probe)
    assert probe.happenings[0].why.startswith("rank 1")


def test_a_pruned_fold_run_ends_with_its_reason(curves: dict[tuple[str, int], Curve]) -> None:
    bad = curves["bad", 0]
    assert words(bad) == [("pruned", 1)]
    assert bad.happenings[0].value == 0.9
    assert "rank 2 of 2" in bad.happenings[0].why
    assert not bad.member


def test_a_failed_fold_run_has_every_try(curves: dict[tuple[str, int], Curve]) -> None:
    broken = curves["broken", 0]
    assert words(broken) == [("retried", 0), ("failed", 1)]
    assert broken.happenings[0].value is None
    assert broken.happenings[1].why == "out of memory"
    assert broken.values == (0.7,)


def test_the_other_folds_are_curves_of_their_own(curves: dict[tuple[str, int], Curve]) -> None:
    assert words(curves["good", 1]) == [("finished", 2)]
    assert not curves["good", 1].is_probe


def test_a_repeated_epoch_is_on_the_curve_once() -> None:
    given = rules()
    events = [
        ev.Proposed("c0", 0, "alpha", 4),
        ev.Started("c0", 0),
        reported("c0", 1, 0.5),
        reported("c0", 1, 0.6),
    ]
    records = [Record(i, float(i), event) for i, event in enumerate(events)]
    race = Race(given)
    for event in events:
        race.apply(event)
    (curve,) = curves_of(records, race)
    assert (curve.epochs, curve.values, curve.end) == ((1,), (0.5,), "running")
    assert curve.happenings == ()


def test_members_are_drawn_last(curves: dict[tuple[str, int], Curve]) -> None:
    groups = by_backbone(curves.values())
    assert list(groups) == ["alpha", "beta"]
    assert [(one.config_id, one.fold) for one in groups["alpha"]] == [
        ("bad", 0),
        ("good", 1),
        ("good", 0),
    ]
