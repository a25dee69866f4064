"""One contract for every kind of place, then what is particular to a local disk and to S3."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import resource
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from ensemble.files import Location
from ensemble.filesystems import open_filesystem


@pytest.fixture(params=["local", "s3", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder to be, on each kind of storage."""
    if request.param == "local":
        return Location.of(tmp_path / "run")
    if request.param == "memory":
        return Location.of(f"memory://{uuid.uuid4().hex}/run")
    return s3_place(request.getfixturevalue("s3_endpoint"))


def s3_place(endpoint: str) -> Location:
    return Location.of(f"s3://runs/{uuid.uuid4().hex}/run?endpoint_override={endpoint}")


class TestContract:
    def test_bytes_come_back_as_they_were_written(self, place: Location) -> None:
        data = bytes(range(256)) * 10
        (place / "oof" / "config_id=c1" / "fold=0.parquet").write_bytes(data)
        there = place / "oof/config_id=c1/fold=0.parquet"
        assert there.read_bytes() == data
        assert there.size() == len(data)
        assert there.name == "fold=0.parquet"

    def test_text_keeps_every_character(self, place: Location) -> None:
        (place / "note.txt").write_text("Straße, 日本語, 🙂\n")
        assert (place / "note.txt").read_text() == "Straße, 日本語, 🙂\n"

    def test_an_empty_file_is_there(self, place: Location) -> None:
        (place / "empty").write_bytes(b"")
        assert (place / "empty").exists()
        assert (place / "empty").read_bytes() == b""
        assert (place / "empty").size() == 0

    def test_a_file_of_several_megabytes_comes_back_whole(self, place: Location) -> None:
        data = os.urandom(1 << 20) * 12
        (place / "large").write_bytes(data)
        assert (place / "large").read_bytes() == data

    def test_writing_again_replaces(self, place: Location) -> None:
        (place / "a").write_text("a long first text")
        (place / "a").write_text("second")
        assert (place / "a").read_text() == "second"
        assert [child.name for child in place.list()] == ["a"]

    def test_a_file_exists_and_is_no_folder_and_its_parent_is_one(self, place: Location) -> None:
        assert not place.exists()
        assert not place.is_dir()
        (place / "folder" / "file").write_text("x")
        assert (place / "folder" / "file").exists()
        assert not (place / "folder" / "file").is_dir()
        assert (place / "folder").exists()
        assert (place / "folder").is_dir()

    def test_children_are_listed_by_name_without_hidden_ones(self, place: Location) -> None:
        for name in ("b", "a", ".hidden", "c/deeper", "a b=1"):
            (place / name).write_text(name)
        children = place.list()
        assert [child.name for child in children] == ["a", "a b=1", "b", "c"]
        assert children[1].read_text() == "a b=1"
        assert [child.name for child in (place / "c").list()] == ["deeper"]

    def test_a_missing_folder_has_no_children(self, place: Location) -> None:
        assert (place / "nothing").list() == []

    def test_a_missing_file_cannot_be_read(self, place: Location) -> None:
        (place / "other").write_text("x")
        with pytest.raises(FileNotFoundError):
            (place / "missing").read_bytes()
        with pytest.raises(FileNotFoundError):
            (place / "missing").size()
        with pytest.raises(FileNotFoundError):
            (place / "missing").open_input()

    def test_a_deleted_file_is_gone_and_its_neighbours_stay(self, place: Location) -> None:
        (place / "a").write_text("a")
        (place / "b").write_text("b")
        (place / "a").delete()
        assert not (place / "a").exists()
        assert [child.name for child in place.list()] == ["b"]

    def test_a_folder_is_deleted_with_everything_in_it(self, place: Location) -> None:
        for name in ("x/1", "x/y/2", "xz/3"):
            (place / name).write_text(name)
        (place / "x").delete()
        assert not (place / "x").exists()
        assert (place / "xz/3").read_text() == "xz/3"

    def test_deleting_what_is_missing_is_fine(self, place: Location) -> None:
        (place / "missing").delete()
        assert not (place / "missing").exists()

    def test_a_part_can_be_read_without_the_rest(self, place: Location) -> None:
        (place / "file").write_bytes(b"0123456789")
        with (place / "file").open_input() as stream:
            stream.seek(4)
            assert stream.read(3) == b"456"

    def test_a_pickled_location_is_the_same_place(self, place: Location) -> None:
        (place / "file").write_text("x")
        again = pickle.loads(pickle.dumps(place))
        assert again == place
        assert (again / "file").read_text() == "x"
        assert vars(again) == {"uri": place.uri}

    def test_the_text_of_a_location_leads_back_to_it(self, place: Location) -> None:
        assert Location.of(str(place)) == place

    @pytest.mark.parametrize("name", ["", "/etc", "../up", "a/../../b"])
    def test_a_child_stays_inside(self, place: Location, name: str) -> None:
        with pytest.raises(ValueError, match="name of a child"):
            place / name


def _read_text(location: Location) -> str:
    return location.read_text()


def test_another_process_opens_an_s3_location_by_itself(s3_endpoint: str) -> None:
    file = s3_place(s3_endpoint) / "file"
    file.write_text("from the parent")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read_text, (file,)) == "from the parent"


def test_the_s3_client_keeps_trying_and_makes_no_bucket(s3_endpoint: str) -> None:
    filesystem, path = open_filesystem((s3_place(s3_endpoint) / "x").uri)
    assert path.startswith("runs/")
    missing = Location.of(f"s3://no-such-bucket/run?endpoint_override={s3_endpoint}")
    with pytest.raises(OSError, match="no-such-bucket"):
        (missing / "file").write_text("x")
    buckets = boto3.client("s3", endpoint_url=s3_endpoint).list_buckets()["Buckets"]
    assert [bucket["Name"] for bucket in buckets] == ["runs"]
    assert filesystem.type_name == "s3"


def test_the_endpoint_may_come_from_the_environment(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    file = Location.of(f"s3://runs/{uuid.uuid4().hex}/file")
    file.write_text("x")
    assert file.read_text() == "x"
    assert str(file).startswith("s3://runs/")


def test_an_s3_file_leaves_no_other_object(s3_endpoint: str) -> None:
    place = s3_place(s3_endpoint)
    (place / "oof" / "file").write_text("x")
    prefix = place.uri.removeprefix("s3://runs/").partition("?")[0]
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    found = client.list_objects_v2(Bucket="runs", Prefix=prefix)["Contents"]
    assert [item["Key"] for item in found] == [f"{prefix}/oof/file"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://runs/x?endpoint=127.0.0.1:1", "unknown option 'endpoint'"),
        ("s3://key:secret@runs/x", "AWS_ACCESS_KEY_ID"),
        ("nosuchscheme://x/y", "no filesystem for nosuchscheme://"),
    ],
)
def test_a_wrong_uri_is_refused_with_what_to_do(uri: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Location.of(uri).exists()


def test_a_secret_in_a_uri_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ValueError) as caught:
        Location.of("s3://key:secret@runs/x").exists()
    assert "secret@" not in str(caught.value)


def test_a_relative_path_and_a_file_uri_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in (
        "runs/a",
        "./runs/a/",
        Path("runs") / "a",
        "~/runs/a",
        f"file://{tmp_path}/runs/a",
    ):
        location = Location.of(given)
        assert location.uri == str(tmp_path / "runs" / "a")
        assert location.is_local
        assert location.local_path == tmp_path / "runs" / "a"


def test_a_question_mark_in_a_local_name_is_a_letter_like_others(tmp_path: Path) -> None:
    file = Location.of(tmp_path) / "why?.txt"
    file.write_text("x")
    assert file.name == "why?.txt"
    assert (tmp_path / "why?.txt").read_text() == "x"


def test_a_remote_location_has_no_local_path_and_keeps_its_query() -> None:
    location = Location.of("s3://bucket/run/?endpoint_override=127.0.0.1:9")
    assert str(location / "a") == "s3://bucket/run/a?endpoint_override=127.0.0.1:9"
    assert (location / "a").name == "a"
    assert not location.is_local
    with pytest.raises(ValueError, match="expected a local path"):
        _ = location.local_path


def test_a_relative_location_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Location\.of"):
        Location("runs/a")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    file = Location.of(tmp_path) / "file"
    file.write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left") as caught:
        file.write_bytes(b"x" * 100_000)
    _check_untouched(caught.value, tmp_path / "file")


def test_a_write_that_the_system_refuses_halfway_leaves_the_old_file_and_names_it(
    tmp_path: Path,
) -> None:
    file = Location.of(tmp_path) / "file"
    file.write_text("old")
    with _largest_file(4096), pytest.raises(OSError) as caught:
        file.write_bytes(b"x" * 100_000)
    assert caught.value.errno == errno.EFBIG
    _check_untouched(caught.value, tmp_path / "file")


def _check_untouched(error: OSError, path: Path) -> None:
    assert error.filename == str(path)
    assert str(path) in str(error)
    assert os.listdir(path.parent) == [path.name]
    assert path.read_text() == "old"


@contextmanager
def _largest_file(size_bytes: int) -> Iterator[None]:
    """Real writes beyond this size fail in the operating system."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_an_interrupt_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        (Location.of(tmp_path) / "file").write_text("x")
    assert os.listdir(tmp_path) == []


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (Location.of(tmp_path) / "ours").write_text("x")
    (tmp_path / "usual").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_is_deleted_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (Location.of(tmp_path) / "real" / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (Location.of(tmp_path) / "link").delete()
    assert (tmp_path / "real" / "file").read_text() == "x"
