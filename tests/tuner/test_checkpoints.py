from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.files import Location
from search_spaces.space import Study
from tests.tuner.make_believe import Search, small_study
from tests.tuner.simulation import World, rules
from trainables.failure import Failure
from trainables.task import EpochResult, FoldTask
from tuner import events as ev
from tuner.checkpoints import discard, discard_ended
from tuner.race import Race
from tuner.run_directory import RunDirectory


def left(run: RunDirectory) -> set[tuple[str, int]]:
    return {
        (file.parent.parent.name, int(file.parent.name.removeprefix("fold=")))
        for file in (run.root.local_path / "checkpoints").glob("*/fold=*/last.pt")
    }


def test_what_ended_leaves_no_checkpoint_and_what_goes_on_keeps_its_own(tmp_path: Path) -> None:
    run = RunDirectory.of(str(tmp_path))
    world = World(Race(rules()), slots=2)
    for _, _ in zip(range(9), world.steps(), strict=False):
        pass
    states = {key: one.is_over for key, one in world.race.runs.items()}
    assert set(states.values()) == {True, False}
    for key in states:
        run.checkpoint(*key).write_bytes(b"weights")
    discard_ended(run, world.race)
    assert left(run) == {key for key, is_over in states.items() if not is_over}


def test_what_is_not_there_or_cannot_be_deleted_ends_no_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory.of(str(tmp_path))
    discard(run, "c0", 0)
    discard_ended(run, Race(rules()))

    def refuse(location: Location) -> None:
        raise PermissionError(13, "Permission denied", str(location))

    monkeypatch.setattr(Location, "delete", refuse)
    discard(run, "c0", 0)


@pytest.fixture(scope="module")
def study() -> Study:
    return small_study()


def test_a_search_discards_every_fold_run_that_it_ends_and_none_that_it_queues_again(
    study: Study, tmp_path: Path
) -> None:
    search = Search(tmp_path, study)
    discarded: list[tuple[str, int]] = []
    conductor = search.begin(discard=lambda *key: discarded.append(key))
    task = conductor.take()
    assert isinstance(task, FoldTask)
    conductor.report(task, EpochResult(1, {"log_loss": 1.0, "seconds": 1.0}))
    conductor.fail(task, Failure("crash", "out of luck"))
    assert not discarded, "it is tried again from its checkpoint"
    again = conductor.take()
    assert isinstance(again, FoldTask)
    conductor.fail(again, Failure("diverged", "no number"))
    assert discarded == [(task.config_id, task.fold)]


def test_a_pruned_fold_run_is_discarded_when_it_has_told_its_last(
    study: Study, tmp_path: Path
) -> None:
    search = Search(tmp_path, study)
    discarded: list[tuple[str, int]] = []
    search.run(search.begin(discard=lambda *key: discarded.append(key)))
    pruned = [
        (one.config_id, one.fold)
        for record in search.records
        for one in record.decisions
        if isinstance(one, ev.Prune)
    ]
    assert pruned
    assert set(pruned) <= set(discarded)
