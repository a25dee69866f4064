"""Where a fetched run comes to lie: DIR/<run name>. What can be seen there is complete.

Files arrive in a hidden folder beside it, and stay there when a fetch is interrupted, so that the
next one goes on. A run that was fetched before is brought up to date, never mixed: a folder such
as `bundle/` is put in place as a whole.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ensemble.files import Location
from tuner.cluster.parcel_format import PackedFile, ParcelError, check_names
from tuner.errors import UserError

RECORD_FILE = "fetched.json"
RECORD_VERSION = 1
READ_BYTES = 1 << 20

# Called with how many bytes of the whole are there.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Record:
    """`fetched.json`: which run this is, and the SHA-256 of every file as it arrived."""

    run: str
    files: tuple[PackedFile, ...] = ()


@dataclass(frozen=True)
class Landing:
    """`folder`: what the user sees; `aside`: where files are until all of them are there."""

    folder: Path

    @property
    def aside(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.fetch")

    @property
    def arriving(self) -> Path:
        return self.aside / "files"

    def kept(self, files: Sequence[PackedFile]) -> set[str]:
        """The names of those that an earlier fetch brought and that are still the same."""
        before = {file.name: file for file in read_record(self.folder).files}
        return {
            file.name
            for file in files
            if before.get(file.name) == file and digest_of(self.folder / file.name) == file.sha256
        }

    def place(self, file: PackedFile, kept: Collection[str]) -> Path:
        """Where the bytes of a file are, or are to be written."""
        return (self.folder if file.name in kept else self.arriving) / file.name

    def forget_others(self, wanted: Collection[str]) -> None:
        """Remove what an interrupted fetch of something else has left among the arriving files."""
        for path in sorted(self.arriving.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif str(path.relative_to(self.arriving)) not in wanted:
                path.unlink()

    def publish(self, run: str, files: Sequence[PackedFile], kept: Collection[str]) -> None:
        """Put every file that has arrived in its place, and remember it in `fetched.json`."""
        changed = {_top(file.name) for file in files if file.name not in kept}
        brought = {_top(file.name) for file in files}
        before = read_record(self.folder).files
        stay = [file for file in before if _top(file.name) not in brought]
        text = _record_text(Record(run, (*stay, *files)))
        if not self.folder.exists():
            (self.arriving / RECORD_FILE).write_text(text, encoding="utf-8")
            self.arriving.rename(self.folder)
        else:
            for file in files:
                if file.name in kept and _top(file.name) in changed:
                    link(self.folder / file.name, self.arriving / file.name)
            for name in sorted(changed):
                self._swap(name)
            Location.of(self.folder / RECORD_FILE).write_text(text)
        shutil.rmtree(self.aside, ignore_errors=True)

    def _swap(self, name: str) -> None:
        old = self.aside / "old" / name
        old.parent.mkdir(exist_ok=True)
        if (self.folder / name).exists():
            (self.folder / name).rename(old)
        (self.arriving / name).rename(self.folder / name)


@contextmanager
def landing(folder: Path, run: str) -> Iterator[Landing]:
    """Hold `folder` for one fetch of `run`. UserError where another fetch is at it, or where it
    holds something else, which must not be overwritten."""
    _check_ours(folder, run)
    here = Landing(folder)
    try:
        here.arriving.mkdir(parents=True, exist_ok=True)
        lock = (here.aside / "lock").open("w")
    except OSError as error:
        raise UserError(
            f"{folder.parent}: cannot write there: {error.strerror}; give another folder with -o"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another fetch is bringing this run; wait for it, or give another -o"
            ) from None
        shutil.rmtree(here.aside / "old", ignore_errors=True)  # of a fetch that was killed
        yield here


def read_record(folder: Path) -> Record:
    """What earlier fetches brought; nothing where there was none, or its file is damaged."""
    try:
        values = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        files = [PackedFile(one["name"], one["size"], one["sha256"]) for one in values["files"]]
        check_names([file.name for file in files])
        return Record(str(values["run"]), tuple(files))
    except (OSError, AttributeError, KeyError, TypeError, ParcelError, ValueError):
        return Record("")


def digest_of(path: Path) -> str | None:
    """The SHA-256 of a file; None where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def check_strays(landed: Landing, files: Sequence[PackedFile]) -> None:
    """UserError where a folder that will be replaced holds a file that no fetch brought."""
    known = {file.name for file in read_record(landed.folder).files}
    for name in sorted({_top(file.name) for file in files}):
        for path in sorted((landed.folder / name).rglob("*")):
            if path.is_file() and str(path.relative_to(landed.folder)) not in known:
                raise UserError(
                    f"{path}: was not fetched, and {landed.folder / name} is to be replaced; move "
                    "it elsewhere, or give another folder with -o"
                )


def counted_from(base: int, progress: Progress) -> Progress:
    """For one part of the whole, before which `base` bytes were there."""
    return lambda done: progress(base + done)


def no_room(folder: Path, missing_bytes: int | None = None) -> UserError:
    """`missing_bytes`: how much is still to come, where known."""
    free = shutil.disk_usage(folder).free
    wanted = "" if missing_bytes is None else f"{missing_bytes / 1e6:,.1f} MB are to come, "
    return UserError(
        f"{folder.resolve()}: no room: {wanted}{free / 1e6:,.1f} MB are free; make room and run "
        "the same command again: what has arrived stays, and it goes on from there"
    )


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _check_ours(folder: Path, run: str) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or not (folder / RECORD_FILE).is_file():
        raise UserError(
            f"{folder}: is there already and was not made by `foldblend fetch`; give another "
            "folder with -o"
        )
    before = read_record(folder).run
    if before and before != run:
        raise UserError(f"{folder}: holds the run {before}, not {run}; give another folder with -o")


def _record_text(record: Record) -> str:
    return json.dumps({"version": RECORD_VERSION, **asdict(record)}, indent=1) + "\n"


def _top(name: str) -> str:
    """What is put in place as a whole: a file of the run directory, or a folder."""
    return name.partition("/")[0]


def link(source: Path, target: Path) -> None:
    """The same file under a second name; a copy where the disk has no such thing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
