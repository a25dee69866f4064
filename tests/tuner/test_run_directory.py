from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuner import run_directory
from tuner.errors import UserError
from tuner.run_directory import RunDirectory, exclusive, is_searched

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    *("run_yaml", "folds", "test_table", "blend", "journal", "fold_runs", "dropped"),
    *("submission", "tune", "log"),
)
HOLD = """
import sys
from tuner.run_directory import RunDirectory, exclusive
with exclusive(RunDirectory.of(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(run: Path) -> subprocess.Popen[str]:
    """Another process that holds the run until its input is closed or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_every_path_lies_below_the_root(tmp_path: Path) -> None:
    run = RunDirectory.of(str(tmp_path / "run"))
    root = tmp_path / "run"
    found = {name: getattr(run, name).local_path.relative_to(root).as_posix() for name in NAMES}
    assert found == {
        "run_yaml": "run.yaml",
        "folds": "folds.parquet",
        "test_table": "test.parquet",
        "blend": "blend.json",
        "journal": "journal",
        "fold_runs": "fold_runs.parquet",
        "dropped": "dropped.csv",
        "submission": "submission.csv",
        "tune": "tune",
        "log": "search.log",
    }
    weights = run.weights("abc", 2).local_path.relative_to(root)
    assert weights.as_posix() == "weights/abc/fold=2/model.safetensors"


def test_a_run_may_lie_on_an_object_store() -> None:
    run = RunDirectory.of("s3://bucket/runs/digits?region=eu-west-1")
    assert str(run.fold_runs) == "s3://bucket/runs/digits/fold_runs.parquet?region=eu-west-1"
    assert run.root.name == "digits"


def test_a_second_search_is_refused_in_one_line_with_the_other_s_process(tmp_path: Path) -> None:
    run = RunDirectory.of(str(tmp_path / "run"))
    other = holder(tmp_path / "run")
    try:
        with pytest.raises(UserError, match=rf"\(process {other.pid}\)") as refused, exclusive(run):
            pass
    finally:
        other.kill()
        other.communicate()
    assert "\n" not in str(refused.value)
    assert f"foldblend status {run.root}" in str(refused.value)


def test_the_command_to_watch_the_other_search_is_quoted_for_a_shell(tmp_path: Path) -> None:
    run = RunDirectory.of(str(tmp_path / "my run"))
    with exclusive(run), pytest.raises(UserError) as refused, exclusive(run):
        pass
    assert f"`foldblend status '{run.root}'`" in str(refused.value)


def test_after_a_kill_the_lock_is_free_again(tmp_path: Path) -> None:
    run = RunDirectory.of(str(tmp_path / "run"))
    other = holder(tmp_path / "run")
    assert is_searched(run)
    other.kill()
    other.communicate()
    assert not is_searched(run)
    with exclusive(run):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    run = RunDirectory.of(str(tmp_path))
    with pytest.raises(RuntimeError), exclusive(run):
        raise RuntimeError
    with exclusive(run):
        pass


def test_a_holder_that_has_not_written_its_number_yet_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_directory, "LOCK_PAUSE_SECONDS", 0.0)
    run = RunDirectory.of(str(tmp_path))
    with exclusive(run):
        (tmp_path / ".lock").write_text("")
        with pytest.raises(UserError, match=r"\(process unknown\)"), exclusive(run):
            pass


def test_asking_whether_a_run_is_searched_writes_nothing(tmp_path: Path) -> None:
    assert not is_searched(RunDirectory.of(str(tmp_path / "nothing")))
    assert not is_searched(RunDirectory.of(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_for_the_search_itself_nobody_is_at_it(tmp_path: Path) -> None:
    """It looks when it is over, to say on its page whether it still goes on."""
    run = RunDirectory.of(str(tmp_path))
    with exclusive(run):
        assert not is_searched(run)


def test_object_stores_have_no_locks() -> None:
    run = RunDirectory.of("memory://locks/run")
    with exclusive(run), exclusive(run):
        assert not is_searched(run)
