from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from search_spaces.space import Study
from tests.tuner.make_believe import Search, epochs_of, outcome, small_study
from trainables.task import EpochResult, FoldTask
from tuner.local import run_in_process
from tuner.race import Status


@pytest.fixture(scope="module")
def study() -> Study:
    return small_study()


def test_slots_take_turns_by_epoch(study: Study, tmp_path: Path) -> None:
    search, seen = Search(tmp_path, study, slots=2), []

    def run_fold(task: FoldTask) -> Iterator[EpochResult]:
        for result in epochs_of(task):
            seen.append((task.config_id, result.epoch))
            yield result

    search.run(run_fold=run_fold)
    first, second = seen[0][0], seen[1][0]
    assert first != second
    assert [epoch for _, epoch in seen[:2]] == [1, 1]
    assert search.begin().race.runs[first, 0].is_over


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_it_is_deterministic_for_any_number_of_slots(
    study: Study, tmp_path: Path, slots: int
) -> None:
    ends = [Search(tmp_path / str(n), study, slots=slots).run() for n in range(2)]
    assert outcome(ends[0]) == outcome(ends[1])


def test_an_exception_in_a_fold_run_is_its_failure_and_not_the_search_s(
    study: Study, tmp_path: Path
) -> None:
    def run_fold(task: FoldTask) -> Iterator[EpochResult]:
        if "efficientnet" in task.configuration.backbone.name:
            raise MemoryError("too large")
        yield from epochs_of(task)

    race = Search(tmp_path, study).run(run_fold=run_fold).race
    failed = [run for run in race.runs.values() if run.status is Status.FAILED]
    assert failed
    assert {run.why for run in failed} == {"MemoryError: too large"}
    assert race.members


def test_a_keyboard_interrupt_is_not_swallowed(study: Study, tmp_path: Path) -> None:
    def run_fold(task: FoldTask) -> Iterator[EpochResult]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        run_in_process(Search(tmp_path, study).begin(), run_fold)


def test_nothing_runs_when_the_race_is_over(study: Study, tmp_path: Path) -> None:
    search = Search(tmp_path, study)
    search.run()
    before = len(search.tasks)
    search.run()
    assert len(search.tasks) == before
