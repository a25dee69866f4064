"""Decoded images of all runs on this machine stay within a bound: the longest unused go first.

A file in use is never deleted. Whoever has it mapped holds a shared lock (flock) on it for as long
as the map lives; the kernel ends both together, however the process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# Only what looks like a cache file, of any format, is ever deleted.
_OURS = re.compile(r"[\w-]+-[0-9a-f]{8}-\d+px-[a-z0-9-]*v\d+\.npy")
_ROOM_LOCK = "room.lock"


@dataclass(frozen=True)
class CacheFile:
    """A complete cache file: its size in bytes and when it was last opened (seconds)."""

    path: Path
    size_bytes: int
    used_at: float


def why_no_room(directory: Path, needed_bytes: int, limit_bytes: int | None) -> str:
    """Delete unused cache files until `needed_bytes` fit; "" where they do, else one line that
    says why not, with nothing deleted.

    `limit_bytes` bounds all decoded images in `directory` together, those still being written
    included. None stands for half of what the disk would have free without them. Call it under
    `room_lock` and take the room before letting go of it.
    """
    complete, unfinished_bytes = _look(directory)
    held = unfinished_bytes + sum(file.size_bytes for file in complete)
    free = shutil.disk_usage(directory).free
    limit = (held + free) // 2 if limit_bytes is None else limit_bytes
    excess = max(held + needed_bytes - limit, needed_bytes - free)
    with contextlib.ExitStack() as locks:
        chosen = []
        for file in sorted(complete, key=lambda file: file.used_at):
            if excess <= 0:
                break
            if locks.enter_context(_unused(file.path)):
                chosen.append(file.path)
                excess -= file.size_bytes
        if excess > 0:
            return _reason(directory, needed_bytes, limit, free, given=limit_bytes is not None)
        for path in chosen:
            path.unlink(missing_ok=True)
    return ""


@contextlib.contextmanager
def room_lock(directory: Path) -> Iterator[None]:
    """One process at a time counts bytes and takes room."""
    with locked(directory / _ROOM_LOCK):
        yield


def open_in_use(path: Path) -> BinaryIO:
    """Open a cache file for reading and mark it as in use, now: nobody deletes it while the file,
    or a map of it, is open. FileNotFoundError where it is not there or has just been deleted."""
    file = path.open("rb")
    try:
        mark_in_use(file)
        if os.fstat(file.fileno()).st_nlink == 0:
            raise FileNotFoundError(f"{path}: deleted to make room")
        with contextlib.suppress(OSError):  # a file of another user's may be read, not dated
            os.utime(path)
    except BaseException:
        file.close()
        raise
    return file


def mark_in_use(file: BinaryIO) -> None:
    """A shared lock on an open file. Where the file system has no locks, none of its files is
    deleted either, as `_unused` cannot lock them."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_SH)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on a file. The kernel frees it however the process ends; the file
    itself stays, since deleting it would let two processes lock two different files.
    BlockingIOError where it is taken and `wait` is False."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextlib.contextmanager
def _unused(path: Path) -> Iterator[bool]:
    """Whether nobody has the file mapped; if so, nobody comes to until this ends."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("r+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # in use, just deleted, not ours to delete, or no locks here
            yield False
            return
        yield True


def _look(directory: Path) -> tuple[list[CacheFile], int]:
    """Complete cache files, and bytes of those that are being written."""
    complete, unfinished_bytes = [], 0
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if _OURS.fullmatch(path.name):
                status = path.stat()
                complete.append(CacheFile(path, status.st_size, status.st_mtime))
            elif path.name.endswith(".npy.tmp"):
                unfinished_bytes += path.stat().st_size
    return complete, unfinished_bytes


def _reason(directory: Path, needed: int, limit: int, free: int, *, given: bool) -> str:
    there = f"decoded images need {_bytes(needed)}"
    if given and limit <= free:
        return f"{there}, those in {directory} may take {_bytes(limit)} in all; raise data.cache_gb"
    return (
        f"{there}, the disk of {directory} has {_bytes(free)} free; "
        "set data.cache_dir to another disk"
    )


def _bytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.3g} MB"
