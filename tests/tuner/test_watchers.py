from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.tuner.made_runs import made_run, made_study, made_world, records_of
from tuner import metrics
from tuner.progress_line import parse_progress
from tuner.race import Race
from tuner.slots import Slots
from tuner.watchers import watchers


class Silent:
    def __init__(self, spec: metrics.Spec) -> None:
        pass

    def set(self, value: float, tags: dict[str, str]) -> None:
        pass


def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> str:
    """What a pipe gets of a whole search that takes place `seconds` from its real time."""
    monkeypatch.setattr(metrics, "_ray_gauge", Silent)
    world, file = made_world().run(), io.StringIO()
    run, race = made_run(tmp_path, world), Race(world.race.rules)
    with watchers(made_study().run, run, Slots(2), Console(file=file)) as listeners:
        for record in records_of(world.events, world.race.rules):
            race.apply(record.event)
            moved: Any = type(record)(
                record.sequence, record.time + seconds, record.event, record.decisions
            )
            for listener in listeners:
                listener(moved, race)
    return file.getvalue()


def test_a_pipe_is_silent_unless_somebody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FOLDBLEND_PROGRESS", raising=False)
    assert watched(tmp_path, monkeypatch, 1e9) == ""


def test_a_job_s_log_ends_with_the_progress_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDBLEND_PROGRESS", "lines")
    lines = watched(tmp_path, monkeypatch, 1e9).splitlines()
    assert parse_progress(lines[-1])["members"] == "3/3"


def test_what_was_before_is_not_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDBLEND_PROGRESS", "lines")
    assert watched(tmp_path, monkeypatch, 0.0) == ""
