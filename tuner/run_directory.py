"""Every path of a run in one place, and the lock that keeps two searches out of one run."""

from __future__ import annotations

import fcntl
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ensemble.files import Location
from trainables.run_paths import RunPaths
from tuner.errors import UserError


@dataclass(frozen=True)
class RunDirectory(RunPaths):
    """`RunPaths` and the files that only the search itself writes."""

    @classmethod
    def of(cls, path: str) -> RunDirectory:
        return cls(Location.of(path))

    @property
    def config(self) -> Location:
        """The YAML files of the person's own --config-dir."""
        return self.root / "config"

    @property
    def journal(self) -> Location:
        return self.root / "journal"

    @property
    def fold_runs(self) -> Location:
        return self.root / "fold_runs.parquet"

    @property
    def dropped(self) -> Location:
        return self.root / "dropped.csv"

    @property
    def submission(self) -> Location:
        return self.root / "submission.csv"

    @property
    def tune(self) -> Location:
        return self.root / "tune"

    @property
    def log(self) -> Location:
        return self.root / "search.log"


# `is_searched` holds the lock for the blink of an eye: that is no other search.
LOCK_TRIES, LOCK_PAUSE_SECONDS = 5, 0.05


@contextmanager
def exclusive(run: RunDirectory) -> Iterator[None]:
    """Hold the run while searching. The kernel gives the lock back when the process dies.

    Raises UserError where another process holds it. Object stores have no locks: there a second
    search on one run is the user's care."""
    if not run.root.is_local:
        yield
        return
    run.root.local_path.mkdir(parents=True, exist_ok=True)
    with _lock_file(run).open("a+") as file:
        if not _try_lock(file, fcntl.LOCK_EX, tries=LOCK_TRIES):
            file.seek(0)
            holder = file.read().strip() or "unknown"  # it has not written its number yet
            raise UserError(
                f"{run.root}: another search is running here (process {holder}); "
                f"watch it with `foldblend status {shlex.quote(str(run.root))}`, or give this one "
                "another name="
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_searched(run: RunDirectory) -> bool:
    """Whether another process searches in this run now. False where nobody can know (an object
    store), and in the search itself, which looks when it is over."""
    if not run.root.is_local or not _lock_file(run).exists():
        return False
    with _lock_file(run).open() as file:
        return not _try_lock(file, fcntl.LOCK_SH) and file.read().strip() != str(os.getpid())


def _lock_file(run: RunDirectory) -> Path:
    return run.root.local_path / ".lock"


def _try_lock(file: TextIO, kind: int, tries: int = 1) -> bool:
    for left in reversed(range(tries)):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if left:
                time.sleep(LOCK_PAUSE_SECONDS)
    return False
