"""What a parcel is: a run's files, one after the other, cut into parts of one size.

`manifest.json` names every file and its SHA-256, and the SHA-256 of every part. It comes from
another machine, so nothing in it is believed before it is checked here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
# What a broken connection costs at most, and what the receiver holds in memory. Ray's dashboard
# ends every answer after 300 s, so that a line must bring one part in that time: 28 kB/s here.
PART_BYTES = 8 << 20
MOST_PART_BYTES = 256 << 20
# Names of ours are of these letters; no part of one may begin with a dot.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=+@-]{0,199}")
DIGEST = re.compile(r"[0-9a-f]{64}")


class ParcelError(ValueError):
    """A parcel that contradicts itself, or names what it must not."""


@dataclass(frozen=True)
class PackedFile:
    """`name`: a relative path with "/"; `size` in bytes; `sha256` in hexadecimal."""

    name: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        checked_name(self.name)
        _check_content(self.name, self.size, self.sha256)


@dataclass(frozen=True)
class Part:
    """`size` in bytes."""

    size: int
    sha256: str

    def __post_init__(self) -> None:
        _check_content("a part", self.size, self.sha256)


@dataclass(frozen=True)
class Piece:
    """Bytes `start` to `start + size` of the file with this index."""

    file: int
    start: int
    size: int


@dataclass(frozen=True)
class Manifest:
    """`run`: where the run lies on the cluster. Every part holds `part_bytes`, but the last one,
    which may hold fewer. Raises ParcelError where the numbers contradict each other, a name leads
    out of the folder, or is there twice."""

    run: str
    files: tuple[PackedFile, ...]
    parts: tuple[Part, ...]
    part_bytes: int

    def __post_init__(self) -> None:
        check_names([file.name for file in self.files])
        if not 1 <= self.part_bytes <= MOST_PART_BYTES:
            raise ParcelError(f"expected parts of 1 to {MOST_PART_BYTES} bytes: {self.part_bytes}")
        # Counted first: the sizes of a hostile manifest would fill the memory.
        count = -(-self.size_bytes // self.part_bytes)
        sizes = [part.size for part in self.parts]
        if len(sizes) != count or sizes != part_sizes(self.size_bytes, self.part_bytes):
            raise ParcelError(
                f"its {len(self.parts)} parts do not hold the {self.size_bytes} bytes of its files"
            )

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files)

    def pieces(self, part: int) -> tuple[Piece, ...]:
        """Where the bytes of a part belong, in their order."""
        start = part * self.part_bytes
        sizes = [file.size for file in self.files]
        return tuple(pieces(sizes, start, start + self.parts[part].size))

    def to_bytes(self) -> bytes:
        values = {"version": FORMAT_VERSION, **asdict(self)}
        return json.dumps(values, indent=1).encode("utf-8") + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """ParcelError for anything that is not a manifest of this version."""
        try:
            values = json.loads(data)
            version = values["version"]
            if version != FORMAT_VERSION:
                raise ParcelError(
                    f"a parcel of version {version}, this foldblend reads {FORMAT_VERSION}; "
                    "install the same foldblend here and on the cluster"
                )
            return _from_values(values)
        except ParcelError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ParcelError(f"not the manifest of a parcel: {error!r}") from error


def part_name(index: int) -> str:
    return f"part-{index:05d}"


def part_sizes(total: int, part_bytes: int) -> list[int]:
    """How many bytes each part of `total` bytes holds."""
    full, rest = divmod(total, part_bytes)
    return [part_bytes] * full + ([rest] if rest else [])


def pieces(sizes: Sequence[int], start: int, end: int) -> Iterator[Piece]:
    """The files, laid end to end, between two of their bytes. Empty files have no piece."""
    ends = list(accumulate(sizes))
    for index, (size, file_end) in enumerate(zip(sizes, ends, strict=True)):
        file_start = file_end - size
        first, last = max(start, file_start), min(end, file_end)
        if first < last:
            yield Piece(index, first - file_start, last - first)


def checked_name(name: str) -> str:
    """The name itself. ParcelError unless it is a plain relative path that stays inside."""
    if not all(PLAIN_NAME.fullmatch(one) for one in name.split("/")):
        raise ParcelError(f"expected the relative path of a file, got {name[:200]!r}")
    return name


def check_names(names: Sequence[str]) -> None:
    """ParcelError where a name is there twice (for disks that do not tell case apart too), or is
    the folder of another."""
    files: set[str] = set()
    folders: set[str] = set()
    for name in names:
        checked_name(name)
        low = name.lower()
        if low in files:
            raise ParcelError(f"{name} is in it twice")
        files.add(low)
        parts = low.split("/")
        folders |= {"/".join(parts[:end]) for end in range(1, len(parts))}
    if both := files & folders:
        raise ParcelError(f"{min(both)} is a file and a folder at once")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_content(name: str, size: int, digest: str) -> None:
    if type(size) is not int or size < 0:
        raise ParcelError(f"{name}: expected a size in bytes, got {size!r}")
    if not DIGEST.fullmatch(digest):
        raise ParcelError(f"{name}: expected a SHA-256, got {digest[:80]!r}")


def _from_values(values: Mapping[str, Any]) -> Manifest:
    return Manifest(
        run=str(values["run"]),
        files=tuple(PackedFile(one["name"], one["size"], one["sha256"]) for one in values["files"]),
        parts=tuple(Part(one["size"], one["sha256"]) for one in values["parts"]),
        part_bytes=values["part_bytes"],
    )
