from __future__ import annotations

from tests.tuner.simulation import World, rules
from tuner import events as ev
from tuner.race import Race
from tuner.standings import backbone_rows, totals
from tuner.tally import Tally, tally


def test_it_counts_as_the_table_does() -> None:
    world = World(Race(rules()), slots=2, fail={("c0", 0): 1, ("c1", 0): 9})
    for _ in world.steps():
        agrees_with_the_table(world.race)
    agrees_with_the_table(world.race)
    ended = tally(world.race)
    assert ended.total("members") == len(world.race.members) > 0
    assert ended.total("failed") == 1
    assert ended.failures == 4


def agrees_with_the_table(race: Race) -> None:
    counts, sums = tally(race), totals(race, slots=2)
    for mine, shown in zip(counts.backbones, backbone_rows(race), strict=True):
        assert mine.backbone == shown.backbone
        assert mine.configurations == shown.proposed
        for name in ("running", "pruned", "promoted", "members", "failed", "best"):
            assert getattr(mine, name) == getattr(shown, name), name
    assert counts.total("fold_epochs") == sums.fold_epochs
    assert counts.failures == sums.failures


def racing(**metrics: float) -> Tally:
    """Two fold runs at it, of which one has told of an epoch."""
    race = Race(rules())
    for number, backbone in enumerate(("alpha", "beta")):
        race.apply(ev.Proposed(f"c{number}", number, backbone, 4))
        race.apply(ev.Started(f"c{number}", 0))
    race.apply(ev.Reported("c0", 0, 1, {"log_loss": 0.5, **metrics}))
    return tally(race)


def test_the_rate_is_of_what_runs_now() -> None:
    counts = racing(images_per_second=120.0)
    assert [one.images_per_second for one in counts.backbones] == [120.0, 0.0]
    ended = World(Race(rules())).run().race
    assert tally(ended).total("images_per_second") == 0


def test_gpu_memory_is_unknown_without_a_gpu() -> None:
    assert racing().gpu_memory_bytes is None
    assert racing(gpu_memory_bytes=3.0 * 2**30).gpu_memory_bytes == 3.0 * 2**30


def test_a_race_that_has_not_begun_has_no_best_score() -> None:
    assert tally(Race(rules())) == Tally((), None, 0, 0, None)


def test_the_best_score_follows_the_metric() -> None:
    race = Race(rules(metric="accuracy", higher_is_better=True))
    for number, score in enumerate((0.5, 0.9, 0.7)):
        race.apply(ev.Proposed(f"c{number}", number, "alpha", 1))
        race.apply(ev.Started(f"c{number}", 0))
        race.apply(ev.Finished(f"c{number}", 0, 1, {"accuracy": score}))
    assert tally(race).best == 0.9
