"""The files of the tree: members, comments, a person's own directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.errors import ConfigError
from search_spaces.tree import GROUPS, TREE, check_directory, check_member, members


def write(path: Path, text: str = "name: x\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(TREE.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_file_says_in_a_comment_what_it_is_for(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    first = lines[1] if lines[0] == "# @package _global_" else lines[0]
    assert first.startswith("# ")
    assert len(first) > 20
    assert max(len(line) for line in lines) <= 100


def test_every_folder_of_files_is_a_group() -> None:
    assert {path.parent.name for path in TREE.rglob("*/*.yaml")} == set(GROUPS)


def test_members_of_a_persons_directory_join_ours(tmp_path: Path) -> None:
    write(tmp_path / "backbone" / "mine.yaml")
    write(tmp_path / "backbone" / "team" / "ours.yaml")
    names = members("backbone", tmp_path)
    assert {"mine", "team/ours", "vit_small"} <= set(names)
    assert list(names) == sorted(names)
    assert "mine" not in members("backbone")
    check_member("backbone", "team/ours", tmp_path)
    check_directory(tmp_path)


def test_an_unknown_member_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^loss=focl: there is no such loss; did you mean focal"):
        check_member("loss", "focl")


def test_a_file_that_would_never_be_read_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "loss" / "focal.yaml")
    with pytest.raises(ConfigError, match="built-in loss and would never be read; rename it"):
        check_directory(tmp_path)


def test_a_directory_must_exist_and_hold_a_group(tmp_path: Path) -> None:
    check_directory(None)
    with pytest.raises(ConfigError, match="does not exist"):
        check_directory(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="has no folder of a group"):
        check_directory(tmp_path)
