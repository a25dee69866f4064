from __future__ import annotations

from pathlib import Path

import pytest

from trainables.errors import DataError
from trainables.image_files import existing, find_image, images_below, is_image


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_only_visible_images_are_listed_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "deep/er/c.tiff", ".d.jpg", ".git/e.jpg", "f.txt", "jpg")
    assert list(images_below(str(tmp_path))) == ["a.png", "b.JPG", "deep/er/c.tiff"]
    assert list(images_below(str(tmp_path), "deep")) == ["deep/er/c.tiff"]


def test_folders_behind_links_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "cat").symlink_to(tmp_path / "real")
    assert list(images_below(str(tmp_path / "linked"))) == ["cat/a.png"]


def test_a_name_without_extension_prefers_the_photo_over_its_mask(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a.jpg", "b.WEBP")
    assert find_image(str(tmp_path), "a") == str(tmp_path / "a.jpg")
    assert find_image(str(tmp_path), "a.png") == str(tmp_path / "a.png")
    assert find_image(str(tmp_path), "b") == str(tmp_path / "b.WEBP")
    assert find_image(str(tmp_path), "c") == str(tmp_path / "c")
    assert find_image(str(tmp_path), str(tmp_path / "a.png")) == str(tmp_path / "a.png")


def test_an_extension_alone_makes_no_image() -> None:
    assert [is_image(name) for name in ("x/a.jpeg", "jpeg", ".jpeg", "a.gif")] == [
        True,
        False,
        False,
        False,
    ]


def test_a_missing_path_names_the_nearest_one(tmp_path: Path) -> None:
    touch(tmp_path, "train.csv")
    assert existing(str(tmp_path / "train.csv"), "data.path") == str(tmp_path / "train.csv")
    with pytest.raises(DataError, match=r"^data\.path=.*did you mean train\.csv\?$"):
        existing(str(tmp_path / "trian.csv"), "data.path")
