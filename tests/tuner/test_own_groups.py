from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from tuner.own_groups import keep_groups, kept_groups, yaml_files
from tuner.run_directory import RunDirectory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own = tmp_path / "mine"
    (own / "experiment" / "deep").mkdir(parents=True)
    (own / "experiment" / "mine.yaml").write_text("# mine\n")
    (own / "experiment" / "deep" / "er.yaml").write_text("# deeper\n")
    (own / "experiment" / "notes.txt").write_text("a secret\n")
    return own


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.of(str(tmp_path / "runs" / "one"))


def files_of(folder: Path | None) -> dict[str, str]:
    assert folder is not None
    return {path.relative_to(folder).as_posix(): path.read_text() for path in yaml_files(folder)}


WHOLE = {"experiment/mine.yaml": "# mine\n", "experiment/deep/er.yaml": "# deeper\n"}


def test_a_run_composes_with_its_own_copy_after_the_folder_is_gone(
    folder: Path, run: RunDirectory
) -> None:
    keep_groups(folder, run)
    shutil.rmtree(folder)
    with kept_groups(run, {"config_dir": str(folder)}) as found:
        assert files_of(found) == WHOLE


def test_only_yaml_files_are_kept(folder: Path, run: RunDirectory) -> None:
    keep_groups(folder, run)
    assert not list(run.config.local_path.rglob("*.txt"))


def test_a_copy_of_an_earlier_start_is_replaced(folder: Path, run: RunDirectory) -> None:
    (run.config / "loss" / "old.yaml").write_text("# of a start that was cut off")
    keep_groups(folder, run)
    with kept_groups(run, {"config_dir": str(folder)}) as found:
        assert files_of(found) == WHOLE


def test_without_a_folder_nothing_is_kept_and_nothing_is_used(run: RunDirectory) -> None:
    keep_groups(None, run)
    assert not run.config.exists()
    with kept_groups(run, {"config_dir": None}) as found:
        assert found is None


def test_a_run_of_an_older_version_uses_the_folder_it_names(
    folder: Path, run: RunDirectory
) -> None:
    with kept_groups(run, {"config_dir": str(folder)}) as found:
        assert found == folder


def test_a_copy_on_another_file_system_is_fetched(folder: Path) -> None:
    remote = RunDirectory.of(f"memory://{uuid.uuid4().hex}/one")
    keep_groups(folder, remote)
    with kept_groups(remote, {"config_dir": str(folder)}) as found:
        assert files_of(found) == WHOLE
        assert found != folder
