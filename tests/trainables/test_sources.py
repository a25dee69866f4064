from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from search_spaces.config import DataConfig
from trainables.errors import DataError
from trainables.manifest import Manifest
from trainables.sources import default_cache_dir, load_manifest
from trainables.submission import SubmissionFormat


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((4, 4, 3), 99, np.uint8))


def lines(path: Path, *rows: str) -> str:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def load(source: str, path: Path | str, **more: str) -> Manifest:
    return load_manifest(DataConfig(source=source, path=str(path), **more))  # type: ignore[arg-type]


def text_of(manifest: Manifest) -> list[tuple[str, str]]:
    return [
        (name, manifest.classes[label])
        for name, label in zip(manifest.ids, manifest.labels.tolist(), strict=True)
    ]


# --- folder ------------------------------------------------------------------------------------


def test_a_folder_per_class_is_a_data_set(tmp_path: Path) -> None:
    for name in ("dog/b.PNG", "dog/old/a.jpg", "cat/001.jpg", "cat/.hidden.jpg", ".git/x.png"):
        picture(tmp_path / name)
    lines(tmp_path / "cat" / "notes.txt", "no image")
    manifest = load("folder", tmp_path)
    assert manifest.classes == manifest.label_values == ("cat", "dog")
    assert text_of(manifest) == [
        ("cat/001.jpg", "cat"),
        ("dog/b.PNG", "dog"),
        ("dog/old/a.jpg", "dog"),
    ]
    assert manifest.paths[0] == str(tmp_path / "cat" / "001.jpg")
    assert manifest.labels.dtype == np.int32
    assert (manifest.groups, manifest.submission, manifest.test_ids) == (None, None, ())


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pets/cat/1.jpg", "pets/dog/1.jpg"):
        picture(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert load("folder", "pets").paths[0] == str(tmp_path / "pets" / "cat" / "1.jpg")


def test_a_class_folder_without_images_stays_a_class(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "1.jpg")
    (tmp_path / "dog").mkdir()
    assert load("folder", tmp_path).classes == ("cat", "dog")


def test_what_is_no_folder_data_set_says_so_in_one_line(tmp_path: Path) -> None:
    empty, flat, hollow = (tmp_path / name for name in ("empty", "flat", "hollow"))
    empty.mkdir()
    picture(flat / "a.jpg")
    (hollow / "cat").mkdir(parents=True)
    picture(tmp_path / "single" / "cat" / "a.jpg")
    for path, message in (
        (tmp_path / "emtpy", "no such file or folder .*did you mean empty"),
        (empty, "no folders in it, expected one folder per class"),
        (flat, "no folders in it, expected one folder per class"),
        (hollow, "no images in its 1 folders"),
        (tmp_path / "single", "1 class .cat., expected 2 or more"),
        (flat / "a.jpg", "is a file; data.source=folder expects a folder"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            load("folder", path)
        assert "\n" not in str(caught.value)


def test_groups_cannot_come_from_folders(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "1.jpg")
    with pytest.raises(DataError, match=r"group_column=sender.*list the images in a CSV"):
        load("folder", tmp_path, group_column="sender")


# --- tables ------------------------------------------------------------------------------------


@pytest.fixture
def contest(tmp_path: Path) -> Path:
    """A contest's usual layout: train/, test/, train.csv, meta.csv, sample_submission.csv."""
    for name in ("train/a.jpg", "train/b.jpg", "train/c.jpg", "test/x.jpg", "test/y.jpg"):
        picture(tmp_path / name)
    lines(tmp_path / "train.csv", "ID,target,sender", "a.jpg,10,7", "b.jpg,2,8", "c.jpg,10,7")
    lines(tmp_path / "meta.csv", "target,class_name", "10,hat", "2,shoe", "0,bag")
    lines(tmp_path / "sample_submission.csv", "ID,target", "y.jpg,0", "x.jpg,0")
    return tmp_path


def load_contest(root: Path, **more: str) -> Manifest:
    return load("csv", root / "train.csv", **({"images": str(root / "train")} | more))


def test_columns_classes_and_groups_of_a_csv_are_found(contest: Path) -> None:
    manifest = load_contest(contest, classes=str(contest / "meta.csv"), group_column="sender")
    assert manifest.classes == ("bag", "shoe", "hat")
    assert manifest.label_values == ("0", "2", "10")
    assert text_of(manifest) == [("a.jpg", "hat"), ("b.jpg", "shoe"), ("c.jpg", "hat")]
    assert manifest.groups == ("7", "8", "7")
    assert manifest.paths[1] == str(contest / "train" / "b.jpg")


def test_without_a_classes_file_whole_numbers_are_sorted_by_size(contest: Path) -> None:
    manifest = load_contest(contest)
    assert manifest.classes == manifest.label_values == ("2", "10")


@pytest.mark.parametrize("header", ["name,target", "target,name", "code,title"])
def test_the_value_column_of_the_classes_file_is_found(contest: Path, header: str) -> None:
    cells = {"name": ("hat", "shoe"), "target": ("10", "2"), "code": ("10", "2")}
    cells["title"] = cells["name"]
    columns = header.split(",")
    rows = [",".join(cells[column][row] for column in columns) for row in range(2)]
    manifest = load_contest(contest, classes=lines(contest / "meta.csv", header, *rows))
    assert (manifest.label_values, manifest.classes) == (("2", "10"), ("shoe", "hat"))


def test_a_classes_file_must_fit_and_name_each_class_once(contest: Path) -> None:
    for rows, message in (
        (("code,title", "x,hat"), r"no column holds the labels \(2, 10, …\); columns: code, title"),
        (("target,name", "2,hat", "2,shoe"), "target 2 comes twice"),
        (("target,name", "2,hat", "10,hat"), "name hat comes twice"),
    ):
        with pytest.raises(DataError, match=message):
            load_contest(contest, classes=lines(contest / "meta.csv", *rows))


def test_labels_outside_the_classes_are_kept_with_their_text(contest: Path) -> None:
    lines(contest / "train.csv", "ID,target", "a.jpg,10", "b.jpg,99", "c.jpg,")
    manifest = load_contest(contest, classes=str(contest / "meta.csv"))
    assert manifest.labels.tolist() == [2, -1, -1]
    assert manifest.label_text == ("10", "99", "")


def test_ids_without_extension_and_odd_names_are_found(tmp_path: Path) -> None:
    for name in ("007.png", "8.v2.JPG", "sub/9.jpeg"):
        picture(tmp_path / name)
    lines(tmp_path / "t.csv", "image,class", "007,NA", "8.v2,None", "sub/9,NA")
    manifest = load("csv", tmp_path / "t.csv")
    assert manifest.ids == ("007", "8.v2", "sub/9")
    assert [os.path.relpath(path, tmp_path) for path in manifest.paths] == [
        "007.png",
        "8.v2.JPG",
        "sub/9.jpeg",
    ]
    assert manifest.classes == ("NA", "None")


def test_the_first_column_is_the_id_where_no_name_tells(contest: Path) -> None:
    lines(contest / "train.csv", "bild,y", "a.jpg,1", "b.jpg,2")
    assert load_contest(contest).ids == ("a.jpg", "b.jpg")


def test_missing_images_and_repeated_ids_are_kept_for_the_check(contest: Path) -> None:
    lines(contest / "train.csv", "ID,target", "a.jpg,1", "a.jpg,2", "gone.jpg,1")
    manifest = load_contest(contest)
    assert manifest.ids == ("a.jpg", "a.jpg", "gone.jpg")
    assert manifest.paths[2] == str(contest / "train" / "gone.jpg")


def test_the_wrong_image_folder_is_one_line_that_lists_the_folders(contest: Path) -> None:
    with pytest.raises(
        DataError, match=r"none of the 3 .*folders in it: test, train\); set data.im"
    ):
        load("csv", contest / "train.csv")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_column": "targte"}, "label_column=targte: no such column.*did you mean target"),
        ({"id_column": "id"}, r"id_column=id: no such column in .*columns: ID, target, sender"),
        ({"group_column": "sendr"}, "did you mean sender"),
        ({"images": "nowhere"}, "data.images=nowhere: no such file or folder"),
        ({"classes": "nowhere.csv"}, "data.classes=nowhere.csv: no such file"),
        ({"test_images": "nowhere"}, "data.test_images=nowhere: no such file"),
        ({"sample_submission": "nowhere.csv"}, "data.sample_submission=nowhere.csv: no such"),
    ],
)
def test_a_wrong_setting_is_named(contest: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_contest(contest, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be parsed as CSV"),
        (b"ID,target\n", "the table has no rows"),
        (b"ID,target\na.jpg,1\nb.jpg,2,3,4\n", "cannot be parsed as CSV"),
        (b"ID,target\na.jpg,1,x\nb.jpg,2,x\n", "rows have more fields than the header's 2"),
        ("ID,target\na.jpg,Mütze\n".encode("latin-1"), "not UTF-8"),
        (b"ID,farbe\na.jpg,1\n", "set data.label_column to one of its columns: ID, farbe"),
        (b'ID,target\n"a.jpg,1\n', "cannot be parsed as CSV"),
    ],
)
def test_a_csv_that_cannot_be_used_says_why(contest: Path, content: bytes, message: str) -> None:
    (contest / "train.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_contest(contest)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_column(contest: Path) -> None:
    (contest / "train.csv").write_bytes(b"\xef\xbb\xbfID,target\r\na.jpg,1\r\nb.jpg,2\r\n")
    assert load_contest(contest).ids == ("a.jpg", "b.jpg")


def test_a_parquet_table_gives_the_same_as_the_csv(contest: Path) -> None:
    frame = pd.read_csv(contest / "train.csv")
    frame.to_parquet(contest / "train.parquet")
    options = {"images": str(contest / "train"), "classes": str(contest / "meta.csv")}
    options["group_column"] = "sender"
    csv, parquet = (load(kind, contest / f"train.{kind}", **options) for kind in ("csv", "parquet"))
    assert (parquet.ids, parquet.paths, parquet.groups) == (csv.ids, csv.paths, csv.groups)
    assert parquet.labels.tolist() == csv.labels.tolist()


def test_a_missing_number_in_parquet_does_not_turn_labels_into_floats(contest: Path) -> None:
    frame = pd.DataFrame({"ID": ["a.jpg", "b.jpg", "c.jpg"], "target": [10, None, 2]})
    frame.set_index("ID").to_parquet(contest / "train.parquet")
    manifest = load("parquet", contest / "train.parquet", images=str(contest / "train"))
    assert manifest.label_text == ("10", "", "2")
    assert manifest.labels.tolist() == [1, -1, 0]


def test_what_is_no_parquet_says_so(contest: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load("parquet", contest / "train.csv")
    with pytest.raises(DataError, match="is a folder, expected a CSV or Parquet file"):
        load("csv", contest)


# --- test images -------------------------------------------------------------------------------


def names_of(paths: Sequence[str]) -> list[str]:
    return [os.path.basename(path) for path in paths]


def test_the_sample_submission_gives_order_and_columns(contest: Path) -> None:
    picture(contest / "test" / "not_asked_for.jpg")
    sample = str(contest / "sample_submission.csv")
    manifest = load_contest(contest, test_images=str(contest / "test"), sample_submission=sample)
    assert manifest.test_ids == ("y.jpg", "x.jpg")
    assert manifest.test_paths == (str(contest / "test/y.jpg"), str(contest / "test/x.jpg"))
    assert manifest.submission == SubmissionFormat(("ID", "target"), "label", "ID")


def test_a_sample_submission_may_ask_for_probabilities(contest: Path) -> None:
    meta = str(contest / "meta.csv")
    for header in ("hat,bag,ID,shoe", "2,0,ID,10"):
        sample = lines(contest / "s.csv", header, "0,0,y,0", "0,0,x,0")
        manifest = load_contest(
            contest, classes=meta, test_images=str(contest / "test"), sample_submission=sample
        )
        assert manifest.submission == SubmissionFormat(
            tuple(header.split(",")), "probabilities", "ID"
        )
        assert names_of(manifest.test_paths) == ["y.jpg", "x.jpg"]
    sample = lines(contest / "s.csv", "ID,hta,bag,shoe", "y,0,0,0")
    with pytest.raises(DataError, match="column hta is not one; did you mean hat"):
        load_contest(
            contest, classes=meta, test_images=str(contest / "test"), sample_submission=sample
        )


def test_an_id_of_the_sample_without_a_file_is_kept_for_the_check(contest: Path) -> None:
    sample = lines(contest / "s.csv", "ID,target", "x.jpg,0", "z.jpg,0")
    manifest = load_contest(contest, test_images=str(contest / "test"), sample_submission=sample)
    assert manifest.test_paths[1] == str(contest / "test" / "z.jpg")


def test_without_test_images_the_sample_is_looked_up_among_the_images(contest: Path) -> None:
    shutil.copy(contest / "test" / "x.jpg", contest / "train" / "x.jpg")
    sample = lines(contest / "s.csv", "ID,target", "x,0")
    manifest = load_contest(contest, sample_submission=sample)
    assert manifest.test_paths == (str(contest / "train" / "x.jpg"),)
    with pytest.raises(DataError, match=r"none of the 1 images .* set data.test_images"):
        load_contest(contest, sample_submission=lines(contest / "s.csv", "ID,target", "q,0"))


@pytest.mark.parametrize("named", ["test", "test/*.jpg", "te*/*", "test.csv", "test.parquet"])
def test_without_a_sample_test_images_are_sorted_by_id(contest: Path, named: str) -> None:
    names = [f"{'test/' if '.' in named and '*' not in named else ''}{name}" for name in "yx"]
    frame = pd.DataFrame({"ID": [f"{name}.jpg" for name in names]})
    frame.to_csv(contest / "test.csv", index=False)
    frame.to_parquet(contest / "test.parquet")
    manifest = load_contest(contest, test_images=str(contest / named))
    assert names_of(manifest.test_ids) == names_of(manifest.test_paths) == ["x.jpg", "y.jpg"]
    assert all(os.path.isfile(path) for path in manifest.test_paths)
    assert manifest.submission == SubmissionFormat(("ID", "target"), "label", "ID")


def test_a_folder_data_set_may_have_test_images(tmp_path: Path) -> None:
    for name in ("train/cat/1.jpg", "train/dog/1.jpg", "test/b.jpg", "test/a.jpg"):
        picture(tmp_path / name)
    manifest = load("folder", tmp_path / "train", test_images=str(tmp_path / "test"))
    assert manifest.test_ids == ("a.jpg", "b.jpg")
    assert manifest.submission == SubmissionFormat(("id", "label"), "label", "id")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("test/*.png", "no image has such a name"),
        ("hollow", "no images in it"),
        ("names.csv", "none of its 1 images is beside it"),
        ("test/x.jpg", "expected a folder, a glob pattern or a table"),
    ],
)
def test_test_images_that_are_none_say_so(contest: Path, named: str, message: str) -> None:
    (contest / "hollow").mkdir()
    lines(contest / "names.csv", "ID", "q.jpg")
    with pytest.raises(DataError, match=message):
        load_contest(contest, test_images=str(contest / named))


# --- digits ------------------------------------------------------------------------------------


def test_digits_need_no_settings(tmp_path: Path) -> None:
    manifest = load_manifest(DataConfig(source="digits", cache_dir=str(tmp_path)))
    assert manifest.classes == tuple("0123456789")
    assert (len(manifest.ids), len(manifest.test_ids)) == (1500, 297)
    assert os.path.dirname(manifest.paths[0]) == str(tmp_path / "digits" / "train")
    assert manifest.submission == SubmissionFormat(("id", "label"), "label", "id")
    assert manifest.labels.min() == 0


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert default_cache_dir() == Path("/elsewhere/foldblend")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache_dir() == Path("/home/someone/.cache/foldblend")


def test_a_machine_may_name_its_fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDBLEND_CACHE_DIR", "~/nvme")
    assert default_cache_dir() == Path("~/nvme").expanduser()
