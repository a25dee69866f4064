from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ensemble.files import Location
from tuner.cluster import parcel as parcel_module
from tuner.cluster.contents import Item
from tuner.cluster.parcel import Receipt, _packed_before, clear, pack, read_item
from tuner.cluster.parcel_format import MANIFEST_FILE, Manifest, part_name, sha256
from tuner.errors import UserError


def say(text: str) -> None:
    """Nothing."""


def item_of(path: Path, name: str) -> Item:
    found = path.stat()
    return Item(name, Location.of(path), found.st_size, found.st_mtime_ns)


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    (tmp_path / "big").write_bytes(os.urandom(1000))
    (tmp_path / "empty").write_bytes(b"")
    return [
        item_of(tmp_path / "big", "weights/big"),
        item_of(tmp_path / "empty", "empty"),
        Item("made.json", b"{}", 2, 0),
    ]


def test_parts_end_to_end_are_the_files_end_to_end(items: list[Item], tmp_path: Path) -> None:
    folder = tmp_path / "parcel"
    manifest = pack("/runs/first", items, folder, say, part_bytes=64)
    parts = [(folder / part_name(n)).read_bytes() for n in range(len(manifest.parts))]
    assert b"".join(parts) == (tmp_path / "big").read_bytes() + b"{}"
    assert [sha256(part) for part in parts] == [part.sha256 for part in manifest.parts]
    assert [file.name for file in manifest.files] == ["weights/big", "empty", "made.json"]
    assert Manifest.from_bytes((folder / MANIFEST_FILE).read_bytes()) == manifest


def test_the_same_files_give_the_same_parcel(items: list[Item], tmp_path: Path) -> None:
    first = pack("/runs/first", items, tmp_path / "a", say, part_bytes=64)
    again = pack("/runs/first", items, tmp_path / "b", say, part_bytes=64)
    assert again.to_bytes() == first.to_bytes()


def test_a_parcel_without_its_manifest_is_packed_anew(items: list[Item], tmp_path: Path) -> None:
    folder = tmp_path / "parcel"
    manifest = pack("/runs/first", items, folder, say, part_bytes=64)
    assert _packed_before(folder) == manifest
    (folder / part_name(3)).unlink()
    assert _packed_before(folder) is None
    (folder / MANIFEST_FILE).unlink()
    assert _packed_before(folder) is None
    assert pack("/runs/first", items, folder, say, part_bytes=64) == manifest


def test_a_file_that_grows_is_taken_as_it_was_listed(tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(b"one\n")
    item = item_of(tmp_path / "events", "journal/events.jsonl")
    (tmp_path / "events").write_bytes(b"one\ntwo\n")
    assert b"".join(read_item(item, chunk_bytes=3)) == b"one\n"


def test_a_file_that_shrank_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(b"a long page")
    item = item_of(tmp_path / "page", "report.html")
    (tmp_path / "page").write_bytes(b"short")
    with pytest.raises(UserError, match=r"page: ends 6 bytes early.*run the same command again"):
        list(read_item(item))


def test_a_head_without_room_says_so_before_it_writes(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=parcel_module.SPARE_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"the head's disk has 1\.1 GB free; make room"):
        pack("/runs/first", items, tmp_path / "parcel", say, part_bytes=64)
    assert not list((tmp_path / "parcel").iterdir())


def test_older_parcels_of_a_run_and_forgotten_ones_are_cleared(tmp_path: Path) -> None:
    for name in ("ours-old", "ours-now", "other-new", "other-forgotten"):
        (tmp_path / name).mkdir()
    (tmp_path / "ours.lock").touch()
    os.utime(tmp_path / "other-forgotten", (0, 0))
    clear(tmp_path, "ours", keep="ours-now")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["other-new", "ours-now", "ours.lock"]


def test_the_receipt_is_found_among_other_lines() -> None:
    receipt = Receipt("k-s", "ab12", sha256(b""))
    log = f"packing 3 files\n{receipt.to_line()}\na warning of somebody\n"
    assert Receipt.in_log(log) == receipt
    assert Receipt.in_log("error: no run there\n") is None
    assert Receipt.in_log(f"{parcel_module.RECEIPT_MARK}{{}}\n") is None


def test_a_run_that_the_head_does_not_see_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the head of the cluster sees no run there"):
        parcel_module.pack_on_cluster(str(tmp_path / "nowhere"), ("oof",), 64, say)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/", "0123456789ab-0123456789ab/.."])
def test_only_a_parcel_is_ever_removed(name: str) -> None:
    with pytest.raises(UserError, match="expected the name of a parcel"):
        parcel_module.remove_on_cluster(name)
