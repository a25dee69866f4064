from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuner.cluster import landing as landing_module
from tuner.cluster.landing import RECORD_FILE, Landing, check_strays, landing, read_record
from tuner.cluster.parcel_format import PackedFile, sha256
from tuner.errors import UserError

RUN = "/data/runs/first"


def packed(contents: dict[str, str]) -> list[PackedFile]:
    return [PackedFile(name, len(text), sha256(text.encode())) for name, text in contents.items()]


def bring(folder: Path, contents: dict[str, str], run: str = RUN) -> set[str]:
    """A fetch of these files; returns those that it did not have to bring."""
    files = packed(contents)
    with landing(folder, run) as landed:
        check_strays(landed, files)
        kept = landed.kept(files)
        for file in files:
            if file.name not in kept:
                place = landed.place(file, kept)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(contents[file.name])
        landed.publish(run, files, kept)
    return kept


def found(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != RECORD_FILE
    }


FIRST = {"run.yaml": "r", "bundle/a": "aa", "bundle/m/b": "bb", "oof/x": "xx"}


def test_what_arrives_is_there_and_nothing_else(tmp_path: Path) -> None:
    assert bring(tmp_path / "first", FIRST) == set()
    assert found(tmp_path / "first") == FIRST
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert read_record(tmp_path / "first").run == RUN


def test_nothing_can_be_seen_before_all_is_there(tmp_path: Path) -> None:
    files = packed(FIRST)
    with landing(tmp_path / "first", RUN) as landed:
        (landed.arriving / "run.yaml").write_text("r")
        assert not (tmp_path / "first").exists()
        assert landed.kept(files) == set()
    assert not (tmp_path / "first").exists()
    assert (tmp_path / ".first.fetch" / "files" / "run.yaml").read_text() == "r"


def test_a_second_fetch_brings_the_run_up_to_date(tmp_path: Path) -> None:
    bring(tmp_path / "first", FIRST)
    newer = {"run.yaml": "r", "bundle/a": "a2", "bundle/m/b": "bb", "bundle/c": "cc"}
    assert bring(tmp_path / "first", newer) == {"run.yaml", "bundle/m/b"}
    assert found(tmp_path / "first") == {**newer, "oof/x": "xx"}
    assert {file.name for file in read_record(tmp_path / "first").files} == {*newer, "oof/x"}


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    bring(tmp_path / "first", FIRST)
    bring(tmp_path / "first", {"run.yaml": "r", "bundle/a": "a2"})
    assert found(tmp_path / "first") == {"run.yaml": "r", "bundle/a": "a2", "oof/x": "xx"}


def test_another_part_of_the_run_comes_beside_the_first(tmp_path: Path) -> None:
    bring(tmp_path / "first", {"run.yaml": "r", "bundle/a": "aa"})
    assert bring(tmp_path / "first", {"run.yaml": "r", "oof/x": "xx"}) == {"run.yaml"}
    assert found(tmp_path / "first") == {"run.yaml": "r", "bundle/a": "aa", "oof/x": "xx"}


def test_remembering_a_fetch_of_many_files_takes_as_long_as_there_are_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f"oof/{number}": "x" for number in range(200)}
    bring(tmp_path / "first", many)
    asked: list[str] = []
    really = landing_module._top
    monkeypatch.setattr(landing_module, "_top", lambda name: asked.append(name) or really(name))
    bring(tmp_path / "first", {**many, "run.yaml": "r"})
    assert len(asked) < 10 * len(many)


def test_a_file_that_was_changed_here_is_brought_again(tmp_path: Path) -> None:
    bring(tmp_path / "first", FIRST)
    (tmp_path / "first" / "bundle" / "a").write_text("aX")
    assert bring(tmp_path / "first", FIRST) == set(FIRST) - {"bundle/a"}
    assert found(tmp_path / "first") == FIRST


def test_a_folder_of_the_user_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "run.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"is there already and was not made by `foldblend fetch`"):
        bring(tmp_path / "first", FIRST)
    assert found(tmp_path / "first") == {"run.yaml": "mine"}


def test_another_run_of_the_same_name_is_not_mixed_in(tmp_path: Path) -> None:
    bring(tmp_path / "first", FIRST)
    with pytest.raises(UserError, match=r"holds the run /data/runs/first, not s3://b/first"):
        bring(tmp_path / "first", FIRST, run="s3://b/first")


def test_a_file_of_the_user_in_a_fetched_folder_is_not_lost(tmp_path: Path) -> None:
    bring(tmp_path / "first", FIRST)
    (tmp_path / "first" / "bundle" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt: was not fetched"):
        bring(tmp_path / "first", FIRST)
    (tmp_path / "first" / "bundle" / "notes.txt").rename(tmp_path / "first" / "notes.txt")
    bring(tmp_path / "first", {**FIRST, "bundle/a": "a2"})
    assert (tmp_path / "first" / "notes.txt").read_text() == "mine"


def test_two_fetches_of_one_run_do_not_meet(tmp_path: Path) -> None:
    with (
        landing(tmp_path / "first", RUN),
        pytest.raises(UserError, match="another fetch is bringing this run"),
        landing(tmp_path / "first", RUN),
    ):
        pass
    with landing(tmp_path / "first", RUN):
        pass


def test_what_an_interrupted_fetch_of_an_older_state_left_is_not_published(tmp_path: Path) -> None:
    with landing(tmp_path / "first", RUN) as landed:
        for name in ("gone/deep/file", "oof", "bundle/a"):
            (landed.arriving / name).parent.mkdir(parents=True, exist_ok=True)
            (landed.arriving / name).write_text("old")
        landed.forget_others({"bundle/a", "oof/x"})
        left = [str(p.relative_to(landed.arriving)) for p in sorted(landed.arriving.rglob("*"))]
    assert left == ["bundle", "bundle/a"]


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write there: .*; give another folder with -o"),
        landing(tmp_path / "file" / "first", RUN),
    ):
        pass


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run": 1, "files": [{"name": "../x"}]}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_FILE).write_text(text)
    assert read_record(tmp_path).files == ()


def test_the_record_is_plain_json_with_a_digest_a_file(tmp_path: Path) -> None:
    bring(tmp_path / "first", FIRST)
    values = json.loads((tmp_path / "first" / RECORD_FILE).read_text())
    assert values["run"] == RUN
    assert {one["name"]: one["sha256"] for one in values["files"]} == {
        name: sha256(text.encode()) for name, text in FIRST.items()
    }


def test_the_hidden_folder_lies_beside_the_run(tmp_path: Path) -> None:
    assert Landing(tmp_path / "first").aside == tmp_path / ".first.fetch"
