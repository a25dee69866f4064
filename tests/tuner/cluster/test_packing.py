from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.cluster.packing import is_job, packed, resume_command, runtime_env, search_command


@given(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1)))
def test_overrides_reach_the_command_as_they_were_typed(overrides: list[str]) -> None:
    words = shlex.split(search_command(overrides, packed=True))
    assert words == ["foldblend", "search", "--config-dir", ".", "--", *overrides]


def test_a_run_directory_reaches_the_command_as_it_is() -> None:
    words = shlex.split(resume_command("/a b/$(x)"))
    assert words == ["foldblend", "search", "--resume", "/a b/$(x)"]


def test_only_yaml_files_travel(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("# mine")
    (tmp_path / "token").write_text("secret")
    (tmp_path / "loss" / "weights.safetensors").write_text("large")
    with packed(tmp_path) as folder:
        assert folder is not None
        found = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
        assert sorted(found) == ["loss", "loss/mine.yaml"]
    assert not folder.exists()


def test_no_folder_stays_none() -> None:
    with packed(None) as folder:
        assert folder is None


def test_a_job_has_time_to_end_its_epochs_and_knows_that_it_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables = runtime_env("foldblend-a-1")["env_vars"]
    assert int(variables["RAY_JOB_STOP_WAIT_TIME_S"]) >= 600
    assert not is_job()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_job()
    assert runtime_env("a", tmp_path)["working_dir"] == str(tmp_path)
