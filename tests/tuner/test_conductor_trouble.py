"""What the conductor does when a fold run fails, a disk is full or someone stops it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.make_believe import (
    Search,
    assert_nothing_twice,
    epochs_of,
    events_of,
    small_study,
    told,
)
from trainables.failure import DivergedError
from trainables.recipe import BackboneError
from trainables.task import EpochResult, FoldTask
from tuner import events as ev
from tuner.conductor import HOPELESS
from tuner.journal import Journal, Record
from tuner.race import Race, Status
from tuner.work import Done


def failing(error: Exception, times: int, tasks: list[FoldTask]) -> Any:
    """The first fold run fails `times` times in its second epoch."""

    def run_fold(task: FoldTask) -> Iterator[EpochResult]:
        tasks.append(task)
        first = tasks[0].config_id, 0
        tries = sum((one.config_id, one.fold) == first for one in tasks)
        for result in epochs_of(task):
            if (task.config_id, task.fold) == first and result.epoch == 2 and tries <= times:
                raise error
            yield result

    return run_fold


def test_a_crash_is_tried_again_from_where_it_was(tmp_path: Path) -> None:
    study = small_study("search.pruning.enabled=false")
    search, tasks = Search(tmp_path, study), []
    race = search.run(run_fold=failing(RuntimeError("out of luck"), 1, tasks)).race
    name = tasks[0].config_id
    assert [one.reported_epochs for one in tasks if (one.config_id, one.fold) == (name, 0)] == [
        0,
        1,
    ]
    assert race.runs[name, 0].status is Status.FINISHED
    assert [event.error for event in events_of(search.records, ev.Failed)] == [
        "RuntimeError: out of luck"
    ]


def test_a_crash_is_tried_again_max_failures_times_and_the_search_goes_on(tmp_path: Path) -> None:
    search, tasks = Search(tmp_path, small_study("search.max_failures=2")), []

    def run_fold(task: FoldTask) -> Iterator[EpochResult]:
        tasks.append(task)
        if task.config_id == tasks[0].config_id:
            raise RuntimeError("out of luck")
        yield from epochs_of(task)

    race = search.run(run_fold=run_fold).race
    name = tasks[0].config_id
    assert sum(one.config_id == name for one in tasks) == 3
    assert race.runs[name, 0].status is Status.FAILED
    assert race.runs[name, 0].why == "RuntimeError: out of luck"
    assert len(race.members) == 2


def test_a_diverged_fold_run_is_not_tried_again(tmp_path: Path) -> None:
    search, tasks = Search(tmp_path, small_study()), []

    def run_fold(task: FoldTask) -> Iterator[EpochResult]:
        tasks.append(task)
        raise DivergedError("training loss is nan in epoch 1")
        yield

    race = search.run(run_fold=run_fold).race
    assert len(tasks) == len(race.entrants) == 7
    assert race.members == []
    assert {run.failures for run in race.runs.values()} == {1}


def test_a_fault_of_the_set_up_stops_everything_and_is_no_failed_trial(tmp_path: Path) -> None:
    from trainables.errors import DataError

    search, tasks = Search(tmp_path, small_study(), slots=2), []

    def run_fold(task: FoldTask) -> Iterator[EpochResult]:
        tasks.append(task)
        yield next(epochs_of(task))
        raise DataError("the images are gone")

    conductor = search.run(run_fold=run_fold)
    assert conductor.fatal is not None
    assert conductor.fatal.message == "the images are gone"
    assert len(tasks) == 2
    assert conductor.take() == Done()
    assert not events_of(search.records, ev.Failed)


def refused(task: FoldTask) -> Iterator[EpochResult]:
    raise BackboneError(f"{task.configuration.backbone.name} cannot be built")
    yield


def test_configurations_that_cannot_be_built_are_rows_and_the_search_goes_on(
    tmp_path: Path,
) -> None:
    search = Search(tmp_path, small_study())

    def run_fold(task: FoldTask) -> Iterator[EpochResult]:
        is_one = task.configuration.backbone.name.startswith("test_resnet")
        return refused(task) if is_one else epochs_of(task)

    conductor = search.run(run_fold=run_fold)
    assert conductor.fatal is None
    failed = events_of(search.records, ev.Failed)
    assert failed
    assert not [one for one in failed if one.retry]
    assert conductor.race.members


def test_a_search_of_which_nothing_can_be_built_ends_before_its_hours_are_over(
    tmp_path: Path,
) -> None:
    study = small_study("search.budget.configurations=null", "search.budget.hours=1000")
    conductor = Search(tmp_path, study).run(run_fold=refused)
    assert conductor.fatal is not None
    assert "cannot be built" in conductor.fatal.message
    assert len(conductor.race.entrants) == HOPELESS


class FullDisk(Journal):
    """A journal on a disk that is full from record `full_at` on, and has room again at once."""

    def __init__(self, search: Search, full_at: int) -> None:
        super().__init__(search.journal._folder)
        self._full_at = full_at

    def append(self, record: Record) -> None:
        if record.sequence == self._full_at:
            self._full_at = -1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "events.jsonl")
        super().append(record)


@pytest.mark.parametrize("full_at", [0, 1, 2, 5, 20])
@pytest.mark.parametrize("slots", [1, 2])
def test_a_full_disk_ends_the_search_with_one_line_and_a_resume_completes_it(
    undisturbed: Search, tmp_path: Path, full_at: int, slots: int
) -> None:
    search = Search(tmp_path, undisturbed.study, slots=slots)
    conductor = search.run(search.begin(journal=FullDisk(search, full_at)))
    assert conductor.fatal is not None
    assert "No space left on device" in conductor.fatal.message
    assert "\n" not in conductor.fatal.message
    assert conductor.take() == Done()
    assert len(search.records) == full_at, "nothing may be written after what was lost"
    assert len(search.run().race.members) == 2
    assert_nothing_twice(search.records)
    if slots == 1:
        assert told(search) == told(undisturbed)


def test_a_listener_that_cannot_write_ends_the_search_too(tmp_path: Path) -> None:
    def full(record: Record, race: Race) -> None:
        if record.sequence == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "search.log")

    search = Search(tmp_path, small_study())
    conductor = search.run(search.begin(listeners=[full]))
    assert conductor.fatal is not None
    assert "search.log" in conductor.fatal.message
    assert len(search.run().race.members) == 2


# --- stopping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("at", [1, 4, 15])
def test_a_stopped_search_ends_after_the_current_epochs_and_can_be_completed(
    undisturbed: Search, tmp_path: Path, slots: int, at: int
) -> None:
    search = Search(tmp_path, undisturbed.study, slots=slots)
    conductor = search.begin()
    epochs = []

    def run_fold(task: FoldTask) -> Iterator[EpochResult]:
        for result in epochs_of(task):
            epochs.append(result)
            if len(epochs) == at:
                conductor.stop()
            yield result

    search.run(conductor, run_fold)
    assert conductor.stopped
    assert at <= len(epochs) < at + slots, "only what had begun was ended"
    assert not events_of(search.records, ev.Failed)
    assert len(search.run().race.members) == 2
    assert_nothing_twice(search.records)
    if slots == 1:
        assert told(search) == told(undisturbed)


def test_a_stale_epoch_stops_its_fold_run_when_the_search_was_stopped(tmp_path: Path) -> None:
    conductor = Search(tmp_path, small_study()).begin()
    task = conductor.take()
    assert isinstance(task, FoldTask)
    conductor.report(task, EpochResult(1, {"log_loss": 0.5}))
    conductor.stop()
    assert conductor.report(task, EpochResult(1, {"log_loss": 0.5})) is True
