from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainables.stores import new_place
from trainables import image_folder
from trainables.errors import DataError
from trainables.image_folder import (
    PROBES,
    ImageFolder,
    any_there,
    folder_at,
    images_like,
    is_folder,
    is_pattern,
    open_folder,
    require_some,
)

NAMES = ("cat/a.png", "cat/b.JPG", "dog/c.webp", "d.jpg", "e", ".hidden/f.jpg", "notes.txt")


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> ImageFolder:
    """The same files here and on S3: one contract."""
    if request.param == "local":
        for name in NAMES:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return folder_at(str(tmp_path))
    place = new_place(request.getfixturevalue("s3_endpoint"))
    for name in NAMES:
        (place / name).write_bytes(b"")
    return folder_at(place.uri)


def below(folder: ImageFolder, name: str) -> str:
    address, mark, query = folder.root.partition("?")
    return f"{address}/{name}{mark}{query}"


def test_folders_and_images_are_listed_without_hidden_ones(folder: ImageFolder) -> None:
    assert folder.folders() == ["cat", "dog"]
    assert folder.images() == ["d.jpg", "cat/a.png", "cat/b.JPG", "dog/c.webp"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cat/a.png", "cat/a.png"),
        ("cat/a", "cat/a.png"),
        ("cat/b", "cat/b.JPG"),
        ("e", "e"),
        ("gone", "gone"),
        ("gone.jpg", "gone.jpg"),
    ],
)
def test_an_image_is_found_with_or_without_its_extension(
    folder: ImageFolder, name: str, found: str
) -> None:
    assert folder.find(name) == below(folder, found)
    assert folder.has(folder.find(name)) is (not name.startswith("gone"))


def test_one_image_found_is_enough_to_believe_the_folder(folder: ImageFolder) -> None:
    gone, there = folder.find("gone.jpg"), folder.find("d")
    require_some([gone, there], folder, "t.csv", "data.images")
    with pytest.raises(DataError, match=r"none of the 1 images of t\.csv is in .*cat, dog"):
        require_some([gone], folder, "t.csv", "data.images")


def test_images_named_by_uris_of_their_own_are_looked_for_elsewhere(
    folder: ImageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(image_folder, "_exists", lambda path: bool(asked.append(path)))
    uris = [f"s3://elsewhere/{number}.jpg" for number in range(100)]
    assert [folder.find(uri) for uri in uris] == uris
    assert not any_there(uris, folder)
    assert asked == uris[:PROBES]


def test_a_store_is_listed_once(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listings: list[str] = []

    def listed(root: str) -> list[str]:
        listings.append(root)
        return [f"{number}.jpg" for number in range(100)]

    monkeypatch.setattr(image_folder, "names_below", listed)
    folder = folder_at("s3://bucket/images")
    assert not listings
    found = [folder.find(str(number)) for number in range(100)]
    assert all(map(folder.has, found))
    assert len(folder.images()) == 100
    assert listings == ["s3://bucket/images"]


def test_a_file_is_no_folder(folder: ImageFolder) -> None:
    assert is_folder(folder.root, "data.images")
    with pytest.raises(DataError, match=r"^data\.images=.*d\.jpg.*: is a file, expected a folder"):
        open_folder(below(folder, "d.jpg"), "data.images")
    assert open_folder(folder.root, "data.images").root == folder.root


def test_patterns_are_for_local_files(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for name in ("cat/b.png", "cat/a.png", "cat/a.txt"):
        (tmp_path / name).touch()
    pattern = f"{tmp_path}/*/*"
    assert is_pattern(pattern)
    assert not is_pattern("s3://bucket/images?region=x")
    root, images = images_like(pattern, "images")
    assert root == str(tmp_path)
    assert [name for name, _ in images] == ["cat/a.png", "cat/b.png"]
    with pytest.raises(DataError, match="no image has such a name"):
        images_like(f"{tmp_path}/*.jpg", "images")
    with pytest.raises(DataError, match="patterns are for local files"):
        images_like("s3://bucket/*.jpg", "images")
