from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import MakeTinyImages, TinyImages
from trainables.errors import DataError
from trainables.image_list import listed_images


@pytest.fixture
def images(tiny_images: MakeTinyImages) -> TinyImages:
    return tiny_images(classes=2, per_class=3)


def test_a_folder_is_sorted_by_id(images: TinyImages) -> None:
    ids, paths = listed_images(str(images.images))
    assert ids == sorted(images.ids)
    assert paths == [str(images.images / name) for name in ids]


def test_ids_of_folders_in_a_folder_have_the_folder_in_them(images: TinyImages) -> None:
    (images.folder / "notes.txt").write_text("no image")
    ids, paths = listed_images(str(images.folder))
    assert ids == sorted(f"{name[:8]}/{name}" for name in images.ids)
    assert all(os.path.isfile(path) for path in paths)


def test_a_table_keeps_its_order(images: TinyImages, tmp_path: Path) -> None:
    order = [images.ids[row] for row in (4, 0, 5, 1)]
    table = images.images / "wanted.csv"
    table.write_text("id,label\n" + "".join(f"{name},?\n" for name in order))
    ids, paths = listed_images(str(table))
    assert ids == order
    assert paths == [str(images.images / name) for name in order]


def test_a_table_may_lie_elsewhere_and_leave_out_extensions(
    images: TinyImages, tmp_path: Path
) -> None:
    table = tmp_path / "wanted.parquet"
    stems = [name.removesuffix(".jpg") for name in images.ids[:2]]
    pd.DataFrame({"label": ["", ""], "image": stems}).to_parquet(table)
    ids, paths = listed_images(str(table), images.images)
    assert ids == stems
    assert paths == [str(images.images / name) for name in images.ids[:2]]


def test_a_table_without_a_known_name_has_its_ids_in_the_first_column(images: TinyImages) -> None:
    table = images.images / "wanted.csv"
    table.write_text(f"bild,wert\n{images.ids[0]},1\n")
    assert listed_images(str(table))[0] == [images.ids[0]]


def test_a_pattern_is_sorted_and_named_from_where_it_begins(
    images: TinyImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, paths = listed_images(f"{images.folder}/*/*_001.*")
    assert ids == ["class_00/class_00_001.jpg", "class_01/class_01_001.jpg"]
    assert all(os.path.isfile(path) for path in paths)
    monkeypatch.chdir(images.root)
    assert listed_images("folder/*/*_001.*") == (ids, paths)
    assert listed_images("folder/**/*_001.jpg")[0] == ids


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(images: TinyImages) -> None:
    strange = images.root / "a[1]"
    images.images.rename(strange)
    assert listed_images(str(strange))[0] == sorted(images.ids)


def test_one_image_may_be_named(images: TinyImages) -> None:
    path = str(images.images / images.ids[0])
    assert listed_images(path) == ([images.ids[0]], [path])


def test_a_table_row_without_its_file_keeps_its_place(images: TinyImages) -> None:
    table = images.images / "wanted.csv"
    table.write_text(f"id\nlost.jpg\n{images.ids[0]}\n")
    ids, paths = listed_images(str(table))
    assert ids == ["lost.jpg", images.ids[0]]
    assert paths[0] == str(images.images / "lost.jpg")


def test_nothing_found_is_one_line(images: TinyImages, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.md").write_text("words")
    (tmp_path / "wanted.csv").write_text("id\nlost.jpg\n")
    for named, said in (
        (tmp_path / "empty", "no images in it"),
        (tmp_path / "words.md", "expected a folder, an image, a glob pattern or a table"),
        (tmp_path / "*.png", "no image has such a name"),
        (tmp_path / "empti", r"no such file or folder .*did you mean empty\?"),
        (tmp_path / "wanted.csv", "none of its 1 images lies in .*--root"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            listed_images(str(named))
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"--root=.*no such file or folder"):
        listed_images(str(tmp_path / "wanted.csv"), tmp_path / "nowhere")
