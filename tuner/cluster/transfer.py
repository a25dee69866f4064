"""This machine's side of a fetch: the parts of a parcel by HTTP, each checked before it counts.

A part goes straight to its place in the files that it belongs to. Nothing else is remembered: a
part is there when the bytes in its place have its SHA-256. So an interrupted download goes on with
the first part that is missing, whatever interrupted it.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuner.cluster.connection import Connection, HttpError
from tuner.cluster.landing import (
    READ_BYTES,
    Landing,
    Progress,
    counted_from,
    digest_of,
    is_full,
    no_room,
)
from tuner.cluster.parcel import PARCELS_FOLDER, Receipt
from tuner.cluster.parcel_format import (
    MANIFEST_FILE,
    Manifest,
    ParcelError,
    Part,
    Piece,
    part_name,
    sha256,
)
from tuner.cluster.trouble import UnreachableError, unreachable
from tuner.errors import UserError

LOGS_PATH = "/api/v0/logs/file"
# Of one whole answer. Ray's default, 30 s, cuts a part off on a slow line; more than 300 s its
# dashboard gives to none, whatever is asked (see PART_BYTES).
ANSWER_SECONDS = 300
MOST_MANIFEST_BYTES = 256 << 20
# Between two tries over a broken connection, in seconds; each part that arrives starts them anew.
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)
# A part that arrives damaged: a line that does so thrice will do so again.
TRIES = 3


class GoneError(UserError):
    """The parcel is not on the cluster any more."""


class DamagedError(UserError):
    """What arrived is not what was sent."""


class PartSource(Protocol):
    def read(self, name: str) -> Generator[bytes]:
        """The bytes of a file of the parcel, in chunks. Raises UnreachableError where the
        connection breaks (worth another try), GoneError, RefusedError."""
        ...


@dataclass(frozen=True)
class RemoteParcel:
    """A parcel on a node of the cluster, through the dashboard."""

    connection: Connection
    receipt: Receipt

    def read(self, name: str) -> Generator[bytes]:
        import requests

        asked = {
            "node_id": self.receipt.node,
            "filename": f"{PARCELS_FOLDER}/{self.receipt.parcel}/{name}",
            "lines": -1,
            "timeout": ANSWER_SECONDS,
        }
        try:
            with closing(self.connection.get(LOGS_PATH, asked, stream=True)) as answer:
                yield from answer.iter_content(READ_BYTES)
        except HttpError as error:
            if "file is not found" in str(error):
                raise GoneError(
                    f"{self.receipt.parcel}/{name} is not on the cluster any more: another fetch "
                    "of this run replaced it, or the head was restarted; run the same command again"
                ) from error
            raise unreachable(self.connection.address, error) from error
        except requests.RequestException as error:
            raise unreachable(self.connection.address, error) from error


def read_manifest(source: PartSource, digest: str, pauses: Sequence[float] = PAUSES) -> Manifest:
    """The manifest of a parcel, checked. UserError where it cannot be had or believed."""
    data = _patiently(source, MANIFEST_FILE, MOST_MANIFEST_BYTES, digest, pauses, lambda size: None)
    try:
        return Manifest.from_bytes(data)
    except ParcelError as error:
        raise UserError(f"the cluster's answer is no parcel to be trusted: {error}") from error


def download(
    source: PartSource,
    manifest: Manifest,
    landed: Landing,
    kept: Collection[str],
    progress: Progress,
    pauses: Sequence[float] = PAUSES,
) -> int:
    """Bring every part that is not here yet; returns how many bytes came.

    UserError where a part stays damaged or the connection broken, or this disk is full; what has
    arrived stays for the next try."""
    places = [landed.place(file, kept) for file in manifest.files]
    missing = _missing_parts(manifest, places, kept)
    to_come = sum(manifest.parts[index].size for index in missing)
    if shutil.disk_usage(landed.aside).free < to_come:
        raise no_room(landed.aside, to_come)
    here = manifest.size_bytes - to_come
    progress(here)
    try:
        landed.forget_others({file.name for file in manifest.files if file.name not in kept})
        _make_files(manifest, places, kept)
        for index in missing:
            part = manifest.parts[index]
            data = _part(source, index, part, pauses, counted_from(here, progress))
            _put(data, manifest, manifest.pieces(index), places, kept)
            here += part.size
    except UnreachableError as error:
        raise _broken(error, here, manifest.size_bytes) from error
    except OSError as error:
        if is_full(error):
            raise no_room(landed.aside, manifest.size_bytes - here) from error
        raise
    _check_files(manifest, places, kept)
    return to_come


def _part(
    source: PartSource,
    index: int,
    part: Part,
    pauses: Sequence[float],
    progress: Progress,
) -> bytes:
    return _patiently(source, part_name(index), part.size, part.sha256, pauses, progress)


def _patiently(
    source: PartSource,
    name: str,
    most: int,
    digest: str,
    pauses: Sequence[float],
    progress: Progress,
) -> bytes:
    """A file of the parcel with this SHA-256, over a connection that may break now and then."""
    waits, damaged = iter(pauses), 0
    while True:
        try:
            data = _read(source, name, most, progress)
            if sha256(data) == digest:
                return data
            damaged += 1
            if damaged == TRIES:
                raise DamagedError(
                    f"{name} arrived damaged {TRIES} times: its SHA-256 is {sha256(data)[:12]}…, "
                    f"expected {digest[:12]}…; what changes it between here and the cluster (a "
                    "proxy)? Run the same command again: what has arrived stays"
                )
        except UnreachableError:
            wait = next(waits, None)
            if wait is None:
                raise
            time.sleep(wait)


def _read(source: PartSource, name: str, most: int, progress: Progress) -> bytes:
    """No more than `most` bytes and a chunk, whatever the other side sends."""
    data = bytearray()
    with closing(source.read(name)) as chunks:
        for chunk in chunks:
            data += chunk
            if len(data) > most:
                break
            progress(len(data))
    return bytes(data)


def _missing_parts(manifest: Manifest, places: Sequence[Path], kept: Collection[str]) -> list[int]:
    """The parts of which not every byte is in its place. Those of kept files alone are there."""
    names = [file.name for file in manifest.files]
    missing = []
    for index, part in enumerate(manifest.parts):
        pieces = manifest.pieces(index)
        wanted = any(names[piece.file] not in kept for piece in pieces)
        if wanted and _digest(pieces, places) != part.sha256:
            missing.append(index)
    return missing


def _digest(pieces: Sequence[Piece], places: Sequence[Path]) -> str | None:
    """The SHA-256 of the bytes in these places; None where some are not there."""
    digest = hashlib.sha256()
    for piece in pieces:
        try:
            with places[piece.file].open("rb") as file:
                file.seek(piece.start)
                left = piece.size
                while left and (chunk := file.read(min(left, READ_BYTES))):
                    digest.update(chunk)
                    left -= len(chunk)
        except OSError:
            return None
        if left:
            return None
    return digest.hexdigest()


def _make_files(manifest: Manifest, places: Sequence[Path], kept: Collection[str]) -> None:
    """Every file that is to come, at its full size."""
    for file, place in zip(manifest.files, places, strict=True):
        if file.name not in kept:
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("ab") as stream:
                stream.truncate(file.size)


def _put(
    data: bytes,
    manifest: Manifest,
    pieces: Sequence[Piece],
    places: Sequence[Path],
    kept: Collection[str],
) -> None:
    start = 0
    for piece in pieces:
        if manifest.files[piece.file].name not in kept:
            with places[piece.file].open("r+b") as file:
                file.seek(piece.start)
                file.write(data[start : start + piece.size])
        start += piece.size


def _check_files(manifest: Manifest, places: Sequence[Path], kept: Collection[str]) -> None:
    """The last word: every file as a whole, as it lies on this disk."""
    for file, place in zip(manifest.files, places, strict=True):
        if file.name not in kept and digest_of(place) != file.sha256:
            raise DamagedError(
                f"{file.name}: its parts are right and the whole is not, so the parcel "
                "contradicts itself; run the same command again"
            )


def _broken(error: UnreachableError, here: int, total: int) -> UserError:
    return UserError(
        f"the connection broke and did not come back: {error}. {here / 1e6:,.1f} of "
        f"{total / 1e6:,.1f} MB are here: run the same command again, it goes on from there"
    )
