"""A small version of benchmarks/interval_coverage.py, which has 200 larger tasks."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.interval_coverage import Verdict, drawn, library_of, made_world, report, study
from ensemble.blend import BlendSettings

TASKS = 40


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    quick = BlendSettings(methods=("equal", "convex"), bootstrap=200, refits=0, explain=False)
    return list(study(TASKS, quick, fresh_rows=10_000))


def test_the_nested_interval_holds_the_score_on_fresh_rows(verdicts: list[Verdict]) -> None:
    # Of 40 intervals that each hold with 0.95, fewer than 33 do once in 6,000 times.
    assert sum(verdict.covered for verdict in verdicts) >= 33


def test_the_nested_score_is_nearer_the_fresh_one_than_the_in_sample_score(
    verdicts: list[Verdict],
) -> None:
    nested = np.mean([v.fresh - v.nested - v.luck for v in verdicts])
    in_sample = np.mean([v.fresh - v.in_sample - v.luck for v in verdicts])
    assert in_sample > 0
    assert abs(nested) < in_sample


def test_some_tasks_have_groups_and_some_have_none(verdicts: list[Verdict]) -> None:
    assert {verdict.grouped for verdict in verdicts} == {True, False}


def test_a_task_is_the_same_whenever_it_is_run(verdicts: list[Verdict]) -> None:
    quick = BlendSettings(methods=("equal", "convex"), bootstrap=200, refits=0, explain=False)
    assert list(study(2, quick, fresh_rows=10_000)) == verdicts[:2]


def test_folds_keep_groups_together() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        library = library_of(drawn(made_world(rng), 300, rng), True, rng)
        assert library.groups is not None
        pairs = set(zip(library.groups, library.folds.tolist(), strict=True))
        assert len(pairs) == len(set(library.groups))
        assert len(library.fold_names) == 5


def test_the_report_counts_and_names_the_direction(verdicts: list[Verdict]) -> None:
    text = report("log_loss", verdicts)
    held = sum(verdict.covered for verdict in verdicts)
    assert f"in {held} of {TASKS} tasks" in text
    assert "the in-sample score flatters by +" in text
