from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ensemble.files import Location
from tests.ensemble.conftest import BUCKET
from tests.tuner.made_runs import made_run, made_world
from trainables import bundle
from trainables.bundle import BundleFile
from tuner import finish, report_command
from tuner.cluster.contents import EVERYTHING, contents, listed, parse_what
from tuner.errors import UserError
from tuner.run_directory import RunDirectory


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made for the fetch, instead of making it."""
    made: list[str] = []

    def blend(stored: Any, say: Any) -> None:
        made.append("blend")
        stored.directory.blend.write_text("{}")

    def report(stored: Any, say: Any) -> None:
        made.append("report")
        (stored.directory.root / "report.html").write_text("<html>")

    monkeypatch.setattr(finish, "blend_stored", blend)
    monkeypatch.setattr(report_command, "report_run", report)
    return made


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with members, and files that no fetch looks into."""
    world = made_world()
    world.run()
    assert world.race.members
    run = made_run(tmp_path / "first", world)
    write(
        run,
        *("folds.parquet", "oof/config_id=a/fold=0.parquet", "test/config_id=a/fold=0.parquet"),
        *("analysis/rows.parquet", "weights/a/fold=0/model.safetensors", "tune/x", ".lock"),
        *("checkpoints/a/fold=0/last.pt", "oof/config_id=a/.fold=1.parquet.0123"),
    )
    return run


def write(run: RunDirectory, *names: str) -> None:
    for name in names:
        (run.root / name).write_text(name)


def names(run: RunDirectory, what: str | None) -> list[str]:
    return [item.name for item in contents(str(run.root), parse_what(what), lambda text: None)]


def test_the_oof_store_comes_with_what_explains_it(run: RunDirectory, done: list[str]) -> None:
    assert names(run, "oof") == [
        *("run.yaml", "folds.parquet", "blend.json", "journal/events.jsonl"),
        *("oof/config_id=a/fold=0.parquet", "test/config_id=a/fold=0.parquet"),
    ]


def test_the_report_comes_with_its_tables(run: RunDirectory, done: list[str]) -> None:
    assert names(run, "report") == [
        *("run.yaml", "folds.parquet", "blend.json", "journal/events.jsonl"),
        *("report.html", "analysis/rows.parquet"),
    ]


def test_the_bundle_lies_beside_them_with_the_runs_own_weights(
    run: RunDirectory, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = run.weights("a", 0)
    files = (BundleFile("members/a/fold=0/model.safetensors", weights), BundleFile("e.json", b"x"))
    monkeypatch.setattr(bundle, "bundle_files", lambda path: (None, files))
    items = contents(str(run.root), ("bundle",), lambda text: None)
    by_name = {item.name: item for item in items}
    member = by_name["bundle/members/a/fold=0/model.safetensors"]
    assert member.source == weights
    assert member.size == len(weights.read_bytes())
    assert member.changed_ns == weights.local_path.stat().st_mtime_ns
    assert by_name["bundle/e.json"].source == b"x"


def test_weights_checkpoints_and_half_written_files_stay(
    run: RunDirectory, done: list[str]
) -> None:
    found = " ".join(names(run, "report,oof"))
    for one in ("weights", "checkpoints", "tune", ".lock", "fold=1"):
        assert one not in found


def test_blend_and_report_are_made_where_they_are_missing(
    run: RunDirectory, done: list[str]
) -> None:
    names(run, "oof")
    assert done == ["blend"]
    names(run, "report,oof")
    assert done == ["blend", "report"]
    names(run, "report,oof")
    assert done == ["blend", "report"]


def test_they_are_made_again_after_the_journal_has_grown(
    run: RunDirectory, done: list[str]
) -> None:
    names(run, "report")
    path = run.journal.local_path / "events.jsonl"
    path.write_bytes(path.read_bytes())
    names(run, "report")
    assert done == ["blend", "report"] * 2


def test_a_run_without_members_has_no_bundle_and_still_a_report(
    tmp_path: Path, done: list[str]
) -> None:
    run = made_run(tmp_path / "young", made_world())
    with pytest.raises(UserError, match="no configuration has all its folds yet"):
        names(run, None)
    assert "report.html" in names(run, "report,oof")
    assert done == ["report"]


def test_what_is_a_list_in_any_order() -> None:
    assert parse_what(None) == EVERYTHING
    assert parse_what("oof,bundle") == ("bundle", "oof")
    assert parse_what(" report ") == ("report",)


@pytest.mark.parametrize("text", ["", "weights", "oof;bundle", "oof,", "BUNDLE"])
def test_anything_else_to_fetch_is_one_clear_line(text: str) -> None:
    with pytest.raises(UserError, match=r"--what .*: expected some of bundle, report, oof, got"):
        parse_what(text)


def test_an_object_store_lists_as_a_disk_does(s3_endpoint: str, tmp_path: Path) -> None:
    remote = Location.of(f"s3://{BUCKET}/listed?endpoint_override={s3_endpoint}")
    for root in (remote, Location.of(tmp_path)):
        for name in ("oof/b/x", "oof/a/y", "oof/a/.hidden", "top"):
            (root / name).write_text(name)
    for root in (remote, Location.of(tmp_path)):
        found = [item for name in ("oof", "top", "missing") for item in listed(root, name)]
        assert [item.name for item in found] == ["oof/a/y", "oof/b/x", "top"]
        assert [item.size for item in found] == [7, 7, 3]
        assert all(item.changed_ns > 0 for item in found)
        assert [item.source.read_text() for item in found if isinstance(item.source, Location)] == [
            item.name for item in found
        ]
