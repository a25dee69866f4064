from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.space import Study, load_study
from tests.tuner.make_believe import (
    Clock,
    Search,
    assert_nothing_twice,
    events_of,
    outcome,
    small_study,
    told,
)
from trainables.task import EpochResult, FoldTask
from tuner import events as ev
from tuner.errors import UserError
from tuner.journal import Record
from tuner.race import Race
from tuner.work import Done, Wait


@pytest.fixture(scope="module")
def study() -> Study:
    return small_study()


def test_a_race_over_the_digits_space_ends_with_the_members_that_were_asked_for(
    tmp_path: Path,
) -> None:
    search = Search(tmp_path, load_study(["experiment=digits", "search.promotion.members=4"]))
    race = search.run().race
    assert len(race.entrants) == 12
    assert len(race.members) == 4
    for member in race.members:
        assert [race.runs[member, fold].epoch for fold in range(5)] == [4] * 5
    assert all(run.is_over for run in race.runs.values())


def test_the_single_member_of_an_unpruned_race_is_the_best_on_the_probe_fold(
    tmp_path: Path,
) -> None:
    search = Search(
        tmp_path, small_study("search.pruning.enabled=false", "search.promotion.members=1")
    )
    race = search.run().race
    probes = {name: race.runs[name, 0].metrics["log_loss"] for name in race.entrants}
    assert race.members == [min(probes, key=probes.__getitem__)]


def test_a_fold_run_is_told_everything_it_needs(undisturbed: Search) -> None:
    task = undisturbed.tasks[0]
    assert task.run == str(undisturbed.folder)
    assert task.configuration.config_id == task.config_id
    assert (task.fold, task.reported_epochs, task.threads) == (0, 0, 1)


def test_the_journal_alone_gives_the_same_race_again(undisturbed: Search) -> None:
    records = undisturbed.records
    race = Race(undisturbed.begin().race.rules)
    for record in records:
        assert tuple(race.apply(record.event)) == record.decisions
    assert race.next_work(1) == Done()
    assert [record.sequence for record in records] == list(range(len(records)))


def test_cut_after_any_record_a_search_with_one_slot_ends_the_same(
    undisturbed: Search, tmp_path: Path
) -> None:
    expected = undisturbed.begin()
    for count in range(len(undisturbed.records) - 1):
        cut = undisturbed.cut(tmp_path / str(count), count)
        assert outcome(cut.run()) == outcome(expected), count
        assert told(cut) == told(undisturbed), count


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 50), cuts=st.lists(st.integers(1, 20), min_size=2, max_size=5))
def test_cut_again_and_again_it_still_ends_the_same(
    study: Study, seed: int, cuts: list[int]
) -> None:
    with TemporaryDirectory() as folder:
        whole = Search(Path(folder) / "whole", study, seed)
        expected = whole.run()
        search = whole.cut(Path(folder) / "0", 0)
        for number, more in enumerate(cuts, start=1):
            kept = len(search.records) + more
            search.run()
            search = search.cut(Path(folder) / str(number), kept)
        assert outcome(search.run()) == outcome(expected)
        assert told(search) == told(whole)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 20), slots=st.integers(2, 4), share=st.floats(0.0, 1.0))
def test_with_several_slots_a_cut_search_repeats_nothing_and_keeps_its_budget(
    study: Study, seed: int, slots: int, share: float
) -> None:
    with TemporaryDirectory() as folder:
        whole = Search(Path(folder) / "whole", study, seed, slots)
        whole.run()
        cut = whole.cut(Path(folder) / "cut", round(share * len(whole.records)))
        race = cut.run().race
        assert_nothing_twice(cut.records)
        assert len(race.entrants) == 7
        assert len(race.members) == 2


def test_a_resumed_fold_run_is_not_asked_for_epochs_that_were_reported(
    undisturbed: Search, tmp_path: Path
) -> None:
    records = undisturbed.records
    count = next(n for n, one in enumerate(records, 1) if isinstance(one.event, ev.Reported))
    task = undisturbed.cut(tmp_path, count).begin().take()
    assert isinstance(task, FoldTask)
    assert task.reported_epochs == 1


def test_a_resume_is_a_record_and_a_fresh_run_has_none(undisturbed: Search, tmp_path: Path) -> None:
    assert not events_of(undisturbed.records[:1], ev.Resumed)
    cut = undisturbed.cut(tmp_path, 3)
    cut.begin()
    assert [type(one.event) for one in cut.records[3:]] == [ev.Resumed]


def test_epochs_that_were_heard_of_before_change_nothing(study: Study, tmp_path: Path) -> None:
    search = Search(tmp_path, study)
    conductor = search.begin()
    task = conductor.take()
    assert isinstance(task, FoldTask)
    conductor.report(task, EpochResult(1, {"log_loss": 0.5}))
    before = search.records
    assert conductor.report(task, EpochResult(1, {"log_loss": 0.1})) is False
    assert search.records == before


def test_a_fold_run_whose_end_came_twice_is_finished_once(study: Study, tmp_path: Path) -> None:
    search = Search(tmp_path, study)
    conductor = search.begin()
    task = conductor.take()
    assert isinstance(task, FoldTask)
    for _ in range(2):
        assert conductor.report(task, EpochResult(4, {"log_loss": 0.5}, done=True)) is True
    assert len(events_of(search.records, ev.Finished)) == 1


def test_another_version_s_decisions_are_refused_not_mixed(
    undisturbed: Search, tmp_path: Path
) -> None:
    other = Search(tmp_path, undisturbed.study)
    for record in undisturbed.records:
        if record.decisions:
            other.journal.append(Record(record.sequence, record.time, record.event))
            break
        other.journal.append(record)
    with pytest.raises(UserError, match=f"at record {record.sequence} this version"):
        other.begin()


# --- slots and hours ----------------------------------------------------------------------------


def test_no_more_is_handed_out_than_there_are_slots(tmp_path: Path) -> None:
    conductor = Search(tmp_path, small_study(), slots=2).begin()
    assert isinstance(conductor.take(), FoldTask)
    assert isinstance(conductor.take(), FoldTask)
    assert conductor.take() == Wait()


def test_listeners_hear_every_record_in_order_after_it_is_safe(tmp_path: Path) -> None:
    search, heard = Search(tmp_path, small_study()), []

    def listener(record: Record, race: Race) -> None:
        assert search.records[-1] == record
        heard.append(record)

    search.run(search.begin(listeners=[listener]))
    assert heard == search.records


def test_after_the_deadline_nothing_new_begins_and_members_are_completed(tmp_path: Path) -> None:
    search = Search(tmp_path, small_study("search.budget.configurations=50"), clock=Clock())
    race = search.run(search.begin(deadline=1060.0)).race
    kinds = [type(record.event) for record in search.records]
    assert kinds.count(ev.DeadlinePassed) == 1
    passed = kinds.index(ev.DeadlinePassed)
    assert ev.Proposed not in kinds[passed:]
    assert ev.Finished in kinds[passed:]
    assert 1 < len(race.entrants) < 50
    assert race.members


def test_a_deadline_before_the_first_member_still_gives_an_ensemble(tmp_path: Path) -> None:
    search = Search(tmp_path, small_study("search.pruning.enabled=false"), slots=2)
    assert search.run(search.begin(deadline=1009.0)).race.members


def test_a_deadline_that_passed_before_a_resume_is_not_told_again(tmp_path: Path) -> None:
    search = Search(tmp_path, small_study("search.budget.configurations=50"))
    search.run(search.begin(deadline=1060.0))
    kinds = [type(record.event) for record in search.records]
    cut = search.cut(tmp_path / "cut", kinds.index(ev.DeadlinePassed) + 2)
    cut.run(cut.begin(deadline=1.0))
    assert len(events_of(cut.records, ev.DeadlinePassed)) == 1


def test_hours_that_passed_before_a_resume_count(tmp_path: Path) -> None:
    """The deadline of the resumed search is that of the first, less what it has used."""
    search = Search(tmp_path, small_study("search.budget.configurations=50"))
    search.run(search.begin(deadline=1060.0))
    cut = search.cut(tmp_path / "cut", 30)
    spent = cut.records[-1].time - cut.records[0].time
    cut.clock = Clock(50_000.0)
    cut.run(cut.begin(deadline=50_000.0 + 60.0 - spent))
    times = {type(record.event): record.time for record in cut.records}
    assert times[ev.DeadlinePassed] - 50_000.0 <= 60.0 - spent + 2.0
    assert cut.begin().race.members
