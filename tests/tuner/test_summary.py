from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ensemble.blend_value import write_blend
from ensemble.files import Location
from tests.tuner.made_runs import made_blend, made_run, made_world, recorder
from tests.tuner.simulation import World
from trainables.bundle import Bundle
from tuner.blend_command import Blended
from tuner.journal import decisions_of
from tuner.replayed import StoredRun, read_run
from tuner.run_directory import RunDirectory
from tuner.study import Outcome
from tuner.summary import (
    print_blend,
    print_bundle,
    print_decisions,
    print_gathered,
    print_status,
    print_summary,
)


@pytest.fixture(scope="module")
def world() -> World:
    return made_world().run()


@pytest.fixture
def stored(tmp_path: Path, world: World) -> StoredRun:
    run = made_run(tmp_path / "made", world)
    for name in ("oof/config_id=c0/fold=0.parquet", "fold_runs.parquet", "submission.csv"):
        (run.root / name).write_text("")
    return read_run(str(run.root))


def said(printer: Any, *arguments: Any) -> str:
    console = recorder()
    printer(console, *arguments)
    return console.export_text()


def next_command(text: str) -> list[str]:
    return shlex.split(text.rpartition("next: ")[2])


def test_the_summary_has_every_section(stored: StoredRun) -> None:
    blend = made_blend(stored.race.members[:2])
    text = said(print_summary, Outcome(stored, blend, stopped=False, logs="/logs/session"))
    root = str(stored.directory.root)
    sections = (root, "leaderboard", "the ensemble", "where everything lies")
    at = [text.index(f"\n{title}\n") for title in sections]
    assert at == sorted(at)
    assert "configurations 9 of 9" in text
    assert "best single" in text
    assert "Ray logs              /logs/session" in text
    assert next_command(text) == ["foldblend", "export", root, "-o", f"{root}-bundle"]


def test_only_files_that_are_there_are_named(stored: StoredRun) -> None:
    text = said(print_status, stored)
    for name in ("oof ", "fold_runs.parquet", "submission.csv"):
        assert f"  {name}" in text
    for name in ("weights ", "blend.json", "dropped.csv", "search.log"):
        assert f"  {name}" not in text


def test_a_search_without_an_ensemble_is_to_be_gone_on_with(stored: StoredRun) -> None:
    for outcome in (
        Outcome(stored, None, stopped=False, logs=None),
        Outcome(stored, made_blend(), stopped=True, logs=None),
    ):
        text = said(print_summary, outcome)
        root = str(stored.directory.root)
        assert next_command(text) == ["foldblend", "search", "--resume", root]
        assert "Ray logs" not in text


def test_a_command_can_be_pasted_whatever_the_folder_is_called(
    tmp_path: Path, world: World
) -> None:
    run = made_run(tmp_path / "my [best] run", world)
    text = said(print_blend, read_run(str(run.root)), made_blend())
    root = str(run.root)
    assert next_command(text) == ["foldblend", "export", root, "-o", f"{root}-bundle"]


def test_the_bundle_of_a_remote_run_is_made_in_the_working_directory(world: World) -> None:
    source = Location.of("memory://summary/runs")
    stored = remote(source / "digits", world)
    command = next_command(said(print_blend, stored, made_blend()))
    assert command == ["foldblend", "export", str(source / "digits"), "-o", "digits-bundle"]


def remote(root: Location, world: World) -> StoredRun:
    return StoredRun(RunDirectory(root), cast(Any, None), {}, (), world.race, {})


def test_status_shows_the_blend_as_soon_as_there_is_one(stored: StoredRun) -> None:
    assert "the ensemble" not in said(print_status, stored)
    write_blend(stored.directory.blend, made_blend())
    text = said(print_status, stored)
    assert "the ensemble (blend.json)" in text
    assert "nested log_loss" in text
    assert "next:" not in text


def test_what_a_run_notes_of_its_scores_stands_below_them(stored: StoredRun) -> None:
    write_blend(stored.directory.blend, made_blend())
    noted = replace(stored, raw={**stored.raw, "notes": ["backbone.from_run=x: optimistic too"]})
    assert "* backbone.from_run=x: optimistic too" in said(print_status, noted)


def test_status_of_a_run_that_has_not_begun_has_no_leaderboard(tmp_path: Path) -> None:
    run = made_run(tmp_path, made_world())
    text = said(print_status, read_run(str(run.root)))
    assert "leaderboard" not in text
    assert "configurations 0 of 9" in text


def test_the_blend_is_printed_with_its_weights(stored: StoredRun) -> None:
    text = said(print_blend, stored, made_blend(stored.race.members[:2]))
    assert "the ensemble of 2 members" in text
    assert "0.500" in text
    assert "ensemble minus best single" in text


def test_a_gathered_blend_says_which_scores_are_optimistic() -> None:
    blended = Blended(made_blend(), ("a note",), (("blend.json", "weights"),))
    assert "optimistic" not in said(print_gathered, blended)
    text = said(print_gathered, replace(blended, optimistic=("c1",)))
    assert "note: a note" in text
    assert "* 1 of 2 members kept the epoch that was best on their validation fold" in text


def test_decisions_are_lines_in_order_with_time_and_reason(stored: StoredRun) -> None:
    lines = said(print_decisions, stored).splitlines()
    decisions = decisions_of(stored.records)
    assert len(lines) == len(decisions)
    for line, (_, decision) in zip(lines, decisions, strict=True):
        assert line[4] == "-"
        assert decision.config_id in line
    assert sum("is a member" in line for line in lines) == 3
    assert any("promoted: rank" in line for line in lines)


def test_a_bundle_is_counted_weighed_and_to_be_predicted_with(tmp_path: Path) -> None:
    member = SimpleNamespace(folds=(0, 1, 2))
    bundle = SimpleNamespace(
        members=(member, member),
        size_bytes=lambda folder: 12_345_678,
        provenance={"notes": ["the rules of words.csv are not part of a bundle"]},
    )
    text = said(print_bundle, cast(Bundle, bundle), tmp_path / "out")
    assert f"2 members, 6 models, 12.3 MB -> {tmp_path / 'out'}" in text.replace("\n", "")
    assert "* the rules of words.csv are not part of a bundle" in text
    wanted = ["foldblend", "predict", str(tmp_path / "out"), "IMAGES", "-o", "submission.csv"]
    assert next_command(text) == wanted
