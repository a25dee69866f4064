from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.cluster.parcel_server import ParcelServer, cut, damage, serving
from tuner.cluster import landing as landing_module
from tuner.cluster import transfer
from tuner.cluster.contents import Item
from tuner.cluster.landing import landing
from tuner.cluster.parcel import PARCELS_FOLDER, Receipt, pack
from tuner.cluster.parcel_format import Manifest, part_name, sha256
from tuner.cluster.transfer import RemoteParcel, download, read_manifest
from tuner.cluster.trouble import RefusedError
from tuner.errors import UserError

RUN, PARCEL, PART_BYTES = "/data/runs/first", "key-state", 100
QUICK = (0.0, 0.0)  # pauses of these tests


@pytest.fixture
def files() -> dict[str, bytes]:
    sizes = {"bundle/a": 250, "bundle/b": 10, "empty": 0, "oof/c": 333, "run.yaml": 7}
    return {name: os.urandom(size) for name, size in sizes.items()}


@pytest.fixture
def server(tmp_path: Path, files: dict[str, bytes]) -> Iterator[ParcelServer]:
    (tmp_path / "logs" / PARCELS_FOLDER).mkdir(parents=True)
    with serving(tmp_path / "logs") as running:
        pack_again(running, files)
        yield running


def pack_again(server: ParcelServer, files: dict[str, bytes]) -> Manifest:
    folder = server.logs / PARCELS_FOLDER / PARCEL
    shutil.rmtree(folder, ignore_errors=True)
    items = [Item(name, data, len(data), 0) for name, data in files.items()]
    return pack(RUN, items, folder, lambda text: None, part_bytes=PART_BYTES)


def remote(server: ParcelServer, **connection: Any) -> RemoteParcel:
    manifest = (server.logs / PARCELS_FOLDER / PARCEL / "manifest.json").read_bytes()
    receipt = Receipt(PARCEL, "node", sha256(manifest))
    return RemoteParcel(server.connection(**connection), receipt)


def bring(server: ParcelServer, folder: Path, seen: list[int] | None = None) -> int:
    """What `foldblend fetch` does with a parcel; returns how many bytes came."""
    source = remote(server)
    manifest = read_manifest(source, source.receipt.sha256, QUICK)
    with landing(folder, RUN) as landed:
        kept = landed.kept(manifest.files)
        progress = (lambda done: None) if seen is None else seen.append
        came = download(source, manifest, landed, kept, progress, QUICK)
        landed.publish(RUN, manifest.files, kept)
    return came


def found(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "fetched.json"
    }


def test_every_file_arrives_as_it_was(
    server: ParcelServer, files: dict[str, bytes], tmp_path: Path
) -> None:
    seen: list[int] = []
    assert bring(server, tmp_path / "first", seen) == 600
    assert found(tmp_path / "first") == files
    assert (seen[0], seen[-1]) == (0, 600)
    assert seen == sorted(seen)
    assert server.asked_parts == [part_name(n) for n in range(6)]


def test_a_connection_that_breaks_now_and_then_is_met_with_patience(
    server: ParcelServer, files: dict[str, bytes], tmp_path: Path
) -> None:
    server.tricks += [cut, cut, lambda data: data, cut, cut, damage]
    bring(server, tmp_path / "first")
    assert found(tmp_path / "first") == files


def test_a_connection_that_stays_broken_is_one_line_and_the_next_fetch_goes_on(
    server: ParcelServer, files: dict[str, bytes], tmp_path: Path
) -> None:
    server.tricks += [lambda data: data] * 4 + [cut] * 3
    with pytest.raises(UserError, match=r"broke and did not come back") as caught:
        bring(server, tmp_path / "first")
    assert "the connection was cut" in str(caught.value)
    assert "run the same command again, it goes on from there" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "first").exists()
    server.asked.clear()
    assert bring(server, tmp_path / "first") == 200
    assert server.asked_parts == [part_name(4), part_name(5)]
    assert found(tmp_path / "first") == files


def test_a_tunnel_that_is_closed_is_the_same_line(server: ParcelServer, tmp_path: Path) -> None:
    source = remote(server)
    manifest = read_manifest(source, source.receipt.sha256, QUICK)
    source.connection.address = type(source.connection.address)("http://127.0.0.1:1", "a test")
    with (
        landing(tmp_path / "first", RUN) as landed,
        pytest.raises(UserError, match=r"did not come back.*connection refused.*ray dashboard"),
    ):
        download(source, manifest, landed, (), lambda done: None, QUICK)


def test_a_part_that_stays_damaged_is_one_clear_line(server: ParcelServer, tmp_path: Path) -> None:
    server.tricks += [damage] * 3
    with pytest.raises(UserError, match=r"part-00000 arrived damaged 3 times: its SHA-256"):
        bring(server, tmp_path / "first")
    assert not (tmp_path / "first").exists()


def test_a_server_that_sends_without_end_fills_nothing(tmp_path: Path) -> None:
    sent = 0

    class Endless:
        def read(self, name: str) -> Iterator[bytes]:
            nonlocal sent
            while True:
                sent += 1000
                yield bytes(1000)

    with pytest.raises(UserError, match="damaged"):
        transfer._patiently(Endless(), "part-00000", 5000, "0" * 64, (), lambda done: None)  # type: ignore[arg-type]
    assert sent <= 3 * 7000


def test_a_wrong_token_is_refused_at_once(server: ParcelServer) -> None:
    source = remote(server, token="another")
    with pytest.raises(RefusedError):
        read_manifest(source, source.receipt.sha256, QUICK)


def test_a_parcel_that_is_gone_is_one_clear_line(server: ParcelServer, tmp_path: Path) -> None:
    (server.logs / PARCELS_FOLDER / PARCEL / part_name(2)).unlink()
    with pytest.raises(UserError, match=r"part-00002 is not on the cluster any more.*again"):
        bring(server, tmp_path / "first")


def test_a_manifest_that_is_not_the_one_of_the_receipt_is_not_believed(
    server: ParcelServer,
) -> None:
    source = remote(server)
    with pytest.raises(UserError, match=r"manifest\.json arrived damaged"):
        read_manifest(source, sha256(b"another"), QUICK)


def test_a_manifest_that_leads_elsewhere_is_not_believed(
    server: ParcelServer, tmp_path: Path
) -> None:
    place = server.logs / PARCELS_FOLDER / PARCEL / "manifest.json"
    place.write_bytes(place.read_bytes().replace(b'"bundle/a"', b'"../../a"'))
    source = remote(server)
    with pytest.raises(UserError, match=r"no parcel to be trusted: .*'\.\./\.\./a'"):
        read_manifest(source, source.receipt.sha256, QUICK)


def test_files_that_are_right_in_parts_and_wrong_as_a_whole_are_not_published(
    server: ParcelServer, tmp_path: Path, files: dict[str, bytes]
) -> None:
    place = server.logs / PARCELS_FOLDER / PARCEL / "manifest.json"
    right, wrong = sha256(files["oof/c"]).encode(), sha256(b"another").encode()
    place.write_bytes(place.read_bytes().replace(right, wrong))
    with pytest.raises(UserError, match=r"oof/c: its parts are right and the whole is not"):
        bring(server, tmp_path / "first")
    assert not (tmp_path / "first").exists()


def test_only_what_changed_comes_again(
    server: ParcelServer, files: dict[str, bytes], tmp_path: Path
) -> None:
    bring(server, tmp_path / "first")
    files["run.yaml"] = b"changed"
    pack_again(server, files)
    server.asked.clear()
    assert bring(server, tmp_path / "first") == 100
    assert server.asked_parts == [part_name(5)]
    assert found(tmp_path / "first") == files


def test_a_run_that_changed_between_two_tries_arrives_as_it_is_now(
    server: ParcelServer, files: dict[str, bytes], tmp_path: Path
) -> None:
    server.tricks += [lambda data: data] * 4 + [cut] * 3
    with pytest.raises(UserError):
        bring(server, tmp_path / "first")
    del files["bundle/b"]
    files["oof"] = files.pop("oof/c")[:300]
    pack_again(server, files)
    bring(server, tmp_path / "first")
    assert found(tmp_path / "first") == files


def test_a_disk_without_room_says_so_before_anything_comes(
    server: ParcelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=599)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"no room: 0\.0 MB are to come.*run the same command"):
        bring(server, tmp_path / "first")
    assert server.asked_parts == []


def test_a_disk_that_fills_up_in_the_middle_loses_nothing(
    server: ParcelServer, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, calls = transfer._put, []

    def full(*values: Any) -> None:
        calls.append(values)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(*values)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_put", full)
        with pytest.raises(UserError, match=r"no room:.*what has arrived stays"):
            bring(server, tmp_path / "first")
    server.asked.clear()
    assert bring(server, tmp_path / "first") == 400
    assert found(tmp_path / "first") == files


def test_a_kill_between_two_parts_costs_no_part_that_arrived(
    server: ParcelServer, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(done: int) -> None:
        if done > 300:
            raise KeyboardInterrupt

    source = remote(server)
    manifest = read_manifest(source, source.receipt.sha256, QUICK)
    with landing(tmp_path / "first", RUN) as landed, pytest.raises(KeyboardInterrupt):
        download(source, manifest, landed, (), killed, QUICK)
    assert bring(server, tmp_path / "first") == 300
    assert found(tmp_path / "first") == files


def test_a_megabyte_is_a_million_bytes_in_what_is_said(tmp_path: Path) -> None:
    assert "2.5 MB are to come" in str(landing_module.no_room(tmp_path, 2_500_000))
