from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ensemble.files import Location
from tests.ensemble.conftest import BUCKET
from tuner.cluster import copying
from tuner.cluster.contents import Item, listed
from tuner.cluster.copying import copy_items
from tuner.cluster.landing import landing
from tuner.cluster.parcel_format import ParcelError, sha256
from tuner.errors import UserError

FILES = {"oof/a": b"aaa", "oof/b/c": b"cc", "run.yaml": b"r"}


@pytest.fixture
def source(tmp_path: Path) -> Location:
    root = Location.of(tmp_path / "source")
    for name, data in FILES.items():
        (root / name).write_bytes(data)
    return root


def items_of(root: Location) -> list[Item]:
    made = Item("made.json", b"{}", 2, 0)
    return [*listed(root, "oof"), *listed(root, "run.yaml"), made]


def bring(root: Location, folder: Path) -> int:
    with landing(folder, root.uri) as landed:
        files, came = copy_items(items_of(root), landed, lambda done: None)
        assert {f.name: f.sha256 for f in files} == {
            name: sha256((landed.arriving / name).read_bytes()) for name in (*FILES, "made.json")
        }
        landed.publish(root.uri, files, ())
    return came


def found(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "fetched.json"
    }


def test_every_file_is_copied(source: Location, tmp_path: Path) -> None:
    assert bring(source, tmp_path / "first") == 8
    assert found(tmp_path / "first") == {**FILES, "made.json": b"{}"}


def test_from_an_object_store_too(s3_endpoint: str, source: Location, tmp_path: Path) -> None:
    remote = Location.of(f"s3://{BUCKET}/copied?endpoint_override={s3_endpoint}")
    for name, data in FILES.items():
        (remote / name).write_bytes(data)
    assert bring(remote, tmp_path / "first") == 8
    assert found(tmp_path / "first") == {**FILES, "made.json": b"{}"}
    assert bring(remote, tmp_path / "first") == 2


def test_a_second_copy_reads_only_what_changed_and_what_is_made(
    source: Location, tmp_path: Path
) -> None:
    bring(source, tmp_path / "first")
    (source / "oof/a").write_bytes(b"AAA")
    assert bring(source, tmp_path / "first") == 3 + 2
    assert found(tmp_path / "first")["oof/a"] == b"AAA"


def test_an_interrupted_copy_goes_on_with_the_file_it_was_at(
    source: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(done: int) -> None:
        if done >= 5:
            raise KeyboardInterrupt

    with landing(tmp_path / "first", source.uri) as landed, pytest.raises(KeyboardInterrupt):
        copy_items(items_of(source), landed, killed)
    assert not (tmp_path / "first").exists()
    assert bring(source, tmp_path / "first") == 8 - 3
    assert found(tmp_path / "first") == {**FILES, "made.json": b"{}"}


def test_a_full_disk_is_one_clear_line(
    source: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*values: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(copying, "_copy", full)
    with pytest.raises(UserError, match=r"no room:.*make room and run the same command again"):
        bring(source, tmp_path / "first")


def test_a_name_that_leads_elsewhere_is_not_copied(tmp_path: Path) -> None:
    with landing(tmp_path / "first", "run") as landed, pytest.raises(ParcelError):
        copy_items([Item("../escaped", b"x", 1, 0)], landed, lambda done: None)
    assert not (tmp_path / "escaped").exists()


def test_a_copy_has_its_originals_time(source: Location, tmp_path: Path) -> None:
    os.utime(source.local_path / "run.yaml", ns=(10**18, 10**18))
    bring(source, tmp_path / "first")
    assert (tmp_path / "first" / "run.yaml").stat().st_mtime_ns == 10**18
