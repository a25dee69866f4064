"""The cluster's side of a fetch: pack a run's files where the dashboard can hand them out.

Ray's dashboard gives out, with the token, the files below the session's log folder, byte for byte.
So a short job puts a run there, in parts, and the machine that asked for it takes them by HTTP.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ensemble.files import Location
from tuner.cluster.contents import Item, What, contents
from tuner.cluster.parcel_format import (
    MANIFEST_FILE,
    Manifest,
    PackedFile,
    ParcelError,
    Part,
    part_name,
    sha256,
)
from tuner.errors import UserError

# In Ray's log folder, and before a parcel's id in a file's name as the dashboard knows it.
PARCELS_FOLDER = "foldblend"
# The line of the job's log that says where the parcel is; all else in it is for people.
RECEIPT_MARK = "foldblend-parcel: "
PARCEL_NAME = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}")
READ_BYTES = 1 << 20
# Ray itself stops storing objects when a head's disk is nearly full.
SPARE_BYTES = 1 << 30
# A parcel that nobody came for.
STALE_SECONDS = 24 * 3600

Say = Callable[[str], None]


@dataclass(frozen=True)
class Receipt:
    """`parcel`: its folder's name; `node`: Ray's id of the node that has it; `sha256`: of its
    manifest."""

    parcel: str
    node: str
    sha256: str

    def to_line(self) -> str:
        return RECEIPT_MARK + json.dumps(asdict(self))

    @classmethod
    def in_log(cls, log: str) -> Receipt | None:
        """What the job printed; None where it did not come so far."""
        for line in reversed(log.splitlines()):
            if line.startswith(RECEIPT_MARK):
                try:
                    values = json.loads(line.removeprefix(RECEIPT_MARK))
                    return cls(values["parcel"], values["node"], values["sha256"])
                except (KeyError, TypeError, ValueError):
                    continue
        return None


def pack_on_cluster(run: str, what: Iterable[What], part_bytes: int, say: Say) -> Receipt:
    """The job: pack `run` into this node's log folder, `part_bytes` a part.

    A parcel of the same files that is there already is used again; older ones of this run, and
    forgotten ones, are removed."""
    chosen = tuple(what)
    _check_is_seen(run)
    items = contents(run, chosen, say)
    with _log_folder() as (logs, node):
        folder = logs / PARCELS_FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        key, state = _key(run, chosen), _state(items, part_bytes)
        with _locked(folder / f"{key}.lock"):
            clear(folder, key, keep=f"{key}-{state}")
            parcel = folder / f"{key}-{state}"
            manifest = _packed_before(parcel) or pack(run, items, parcel, say, part_bytes)
    return Receipt(parcel.name, node, sha256(manifest.to_bytes()))


def remove_on_cluster(parcel: str) -> None:
    """The job after a fetch: give the head's disk back. UserError for what is no parcel's name."""
    if not PARCEL_NAME.fullmatch(parcel):
        raise UserError(f"expected the name of a parcel, as `pack-run` prints it, got {parcel!r}")
    with _log_folder() as (logs, _):
        shutil.rmtree(logs / PARCELS_FOLDER / parcel, ignore_errors=True)


def pack(run: str, items: Iterable[Item], folder: Path, say: Say, part_bytes: int) -> Manifest:
    """Write the parts, then, last of all, the manifest. UserError where the disk has no room or a
    file is shorter than it was when it was listed."""
    items = tuple(items)
    total = sum(item.size for item in items)
    folder.mkdir(mode=0o700, exist_ok=True)
    _check_room(folder, total)
    say(f"packing {len(items)} files, {total / 1e6:,.1f} MB")
    writer = _PartWriter(folder, part_bytes)
    files = []
    for item in items:
        digest = hashlib.sha256()
        for chunk in read_item(item):
            digest.update(chunk)
            writer.write(chunk)
        files.append(PackedFile(item.name, item.size, digest.hexdigest()))
    manifest = Manifest(run, tuple(files), writer.finish(), part_bytes)
    Location.of(folder / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    return manifest


def read_item(item: Item, chunk_bytes: int = READ_BYTES) -> Iterator[bytes]:
    """Exactly `item.size` bytes, though the file may be growing; UserError where it has fewer."""
    if isinstance(item.source, bytes):
        yield item.source
        return
    left = item.size
    with item.source.open_input() as stream:
        while left:
            chunk = bytes(stream.read(min(left, chunk_bytes)))
            if not chunk:
                raise UserError(
                    f"{item.source}: ends {left} bytes early, so it was replaced just now; "
                    "run the same command again"
                )
            left -= len(chunk)
            yield chunk


def clear(folder: Path, key: str, keep: str) -> None:
    """Remove the parcels of this key but `keep`, and every one that was not asked for in a day."""
    oldest = time.time() - STALE_SECONDS
    for parcel in folder.iterdir():
        is_ours = parcel.name.startswith(f"{key}-")
        if not parcel.is_dir() or parcel.name == keep:
            continue
        if is_ours or parcel.stat().st_mtime < oldest:
            shutil.rmtree(parcel, ignore_errors=True)


class _PartWriter:
    """Cuts a stream of bytes into files of one size."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self._folder, self._part_bytes = folder, part_bytes
        self._waiting = bytearray()
        self._parts: list[Part] = []

    def write(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) >= self._part_bytes:
            self._put(bytes(self._waiting[: self._part_bytes]))
            del self._waiting[: self._part_bytes]

    def finish(self) -> tuple[Part, ...]:
        if self._waiting:
            self._put(bytes(self._waiting))
            self._waiting.clear()
        return tuple(self._parts)

    def _put(self, data: bytes) -> None:
        Location.of(self._folder / part_name(len(self._parts))).write_bytes(data)
        self._parts.append(Part(len(data), sha256(data)))


def _packed_before(parcel: Path) -> Manifest | None:
    """The manifest of a parcel that is complete: it was written last."""
    try:
        manifest = Manifest.from_bytes((parcel / MANIFEST_FILE).read_bytes())
        sizes = [(parcel / part_name(n)).stat().st_size for n in range(len(manifest.parts))]
    except (OSError, ParcelError):
        return None
    if sizes != [part.size for part in manifest.parts]:
        return None
    os.utime(parcel)  # asked for just now: not forgotten
    return manifest


def _key(run: str, what: tuple[What, ...]) -> str:
    return sha256("\0".join((run, *what)).encode())[:12]


def _state(items: Iterable[Item], part_bytes: int) -> str:
    """A digest of what would be packed, without reading it. Bytes made for the parcel follow from
    the files (`ensemble.json` also tells the time, which is no other state)."""
    listed = [(item.name, item.size, item.changed_ns) for item in items]
    return sha256(json.dumps([part_bytes, *listed]).encode())[:12]


def _check_is_seen(run: str) -> None:
    location = Location.of(run)
    if not (location / "run.yaml").exists():
        raise UserError(
            f"{run}: the head of the cluster sees no run there (no run.yaml); give the run's whole "
            "path or URI as the cluster knows it (`foldblend jobs`), and keep runs where the head "
            "can read them: a shared disk or s3://"
        )


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free - needed < SPARE_BYTES:
        raise UserError(
            f"{folder}: packing takes {needed / 1e9:.1f} GB for the time of the fetch, the head's "
            f"disk has {free / 1e9:.1f} GB free; make room there, fetch less (--what report,oof), "
            "or keep the run on s3://, from where it is copied directly"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two jobs that pack the same run: the second waits, and finds it packed."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _log_folder() -> Iterator[tuple[Path, str]]:
    """The log folder of the Ray that runs this job, and its node's id."""
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    try:
        session = ray._private.worker._global_node.get_session_dir_path()
        yield Path(session) / "logs", ray.get_runtime_context().get_node_id()
    finally:
        ray.shutdown()
