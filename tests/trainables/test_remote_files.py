from __future__ import annotations

import errno
import uuid
from pathlib import Path

import pytest
from moto import settings
from moto.s3.responses import S3Response
from pyarrow.fs import FileType

from ensemble import filesystems
from ensemble.files import Location
from trainables.errors import DataError, UnreachableError
from trainables.image_files import images_below
from trainables.remote_files import (
    address_of,
    fetch,
    is_remote,
    joined,
    kind_of,
    names_below,
    parent_of,
    reason,
)


@pytest.fixture
def place(s3_endpoint: str) -> Location:
    return Location.of(f"s3://runs/{uuid.uuid4().hex}?endpoint_override={s3_endpoint}")


def put(place: Location, *names: str) -> None:
    for name in names:
        (place / name).write_bytes(name.encode())


def test_only_uris_are_remote() -> None:
    assert is_remote("s3://bucket/a")
    assert not any(map(is_remote, ("/data/a.jpg", "data/a.jpg", "file:///data/a.jpg", "~/a")))


@pytest.mark.parametrize(
    ("root", "name", "path"),
    [
        ("s3://b/images", "a b.jpg", "s3://b/images/a b.jpg"),
        ("s3://b/images?region=x", "c/a.jpg", "s3://b/images/c/a.jpg?region=x"),
        ("s3://b/tables", "../images/./a.jpg", "s3://b/images/a.jpg"),
        ("s3://b/tables", "s3://c/a.jpg", "s3://c/a.jpg"),
        ("s3://b/tables", "/data/a.jpg", "/data/a.jpg"),
        ("/data", "a.jpg", "/data/a.jpg"),
        ("/data", "s3://c/a.jpg", "s3://c/a.jpg"),
    ],
)
def test_a_name_is_joined_to_its_folder(root: str, name: str, path: str) -> None:
    assert joined(root, name) == path


def test_a_uri_keeps_its_options_when_its_parent_is_asked_for() -> None:
    assert parent_of("s3://b/data/train.csv?region=x") == "s3://b/data?region=x"
    assert parent_of("s3://b/train.csv") == "s3://b"
    assert parent_of("/data/train.csv") == "/data"
    assert address_of("s3://b/train.csv?region=x") == "s3://b/train.csv"
    assert address_of("/data/what?.csv") == "/data/what?.csv"


def test_a_store_is_listed_in_the_order_of_a_local_walk(place: Location, tmp_path: Path) -> None:
    names = ("b.jpg", "b/z.jpg", "b/a/y.jpg", "B.jpg", "c.jpg/x.jpg", ".h/d.jpg", "b/.e.jpg")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    put(place, *names)
    assert names_below(place.uri) == list(images_below(str(tmp_path)))


def test_many_folders_are_one_listing(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, *(f"class_{number:02}/{number}.jpg" for number in range(30)))
    asked: list[str] = []
    answer = S3Response.list_objects_v2
    monkeypatch.setattr(
        S3Response, "list_objects_v2", lambda self: asked.append("list") or answer(self)
    )
    assert len(names_below(place.uri)) == 30
    assert asked == ["list"]


def test_an_object_comes_back_whole_and_a_missing_one_is_told_by_its_uri(place: Location) -> None:
    put(place, "a.jpg")
    assert fetch((place / "a.jpg").uri) == b"a.jpg"
    with pytest.raises(FileNotFoundError) as caught:
        fetch((place / "gone.jpg").uri)
    assert (caught.value.errno, caught.value.strerror) == (errno.ENOENT, "no such object")
    assert caught.value.filename == (place / "gone.jpg").uri


def test_files_folders_and_nothing_are_told_apart(place: Location) -> None:
    put(place, "deep/a.jpg")
    assert kind_of(place.uri, "data.path") == FileType.Directory
    assert kind_of((place / "deep/a.jpg").uri, "data.path") == FileType.File
    assert kind_of((place / "other").uri, "data.path") == FileType.NotFound


def test_a_bucket_that_is_not_there_is_one_line(s3_endpoint: str) -> None:
    missing = f"s3://no-such-bucket/train.csv?endpoint_override={s3_endpoint}"
    with pytest.raises(DataError, match=r"^data\.path=s3://.*: no such bucket: no-such-bucket$"):
        kind_of(missing, "data.path")
    with pytest.raises(UnreachableError, match=r"^s3://no-such-bucket/.*: no such bucket$"):
        names_below(missing)


def test_a_refusal_says_what_to_check(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, "a.jpg")
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
    for ask in (fetch, names_below, lambda uri: kind_of(uri, "data.path")):
        with pytest.raises(UnreachableError, match="AWS_ACCESS_KEY_ID") as caught:
            ask((place / "a.jpg").uri)
        assert "\n" not in str(caught.value)
        assert "s3://runs/" in str(caught.value)


def test_a_store_that_does_not_answer_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "S3_ATTEMPTS", 1)
    with pytest.raises(UnreachableError, match="does not answer"):
        fetch(f"s3://runs-{uuid.uuid4().hex}/a.jpg?endpoint_override=http://127.0.0.1:1")


@pytest.mark.parametrize("uri", ["s3://key@bucket/a.csv", "s3://b/a.csv?regoin=x", "xx://b/a.csv"])
def test_a_uri_that_means_nothing_is_a_mistake_in_the_settings(uri: str) -> None:
    with pytest.raises(DataError, match=r"^data\.path="):
        kind_of(uri, "data.path")


def test_other_answers_are_told_in_the_stores_words() -> None:
    error = OSError(
        "When listing: AWS Error SLOW_DOWN during ListObjectsV2 operation: Please reduce "
        "your request rate (Request ID: abc)"
    )
    assert reason(error) == "Please reduce your request rate (SLOW_DOWN)"
    assert reason(ValueError("two\nlines")) == "two lines"
    assert reason(OSError()) == "OSError"
