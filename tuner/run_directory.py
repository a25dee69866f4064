"""Every path of a run in one place, and the lock that keeps two searches out of one run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


@contextmanager
def exclusive(run: RunDirectory) -> Iterator[None]:
    """Hold the run while searching. The kernel gives the lock back when the process dies.

    Raises UserError where another process holds it. Object stores have no locks: there a second
    search on one run is the user's care."""
    if not run.root.is_local:
        yield
        return
    run.root.local_path.mkdir(parents=True, exist_ok=True)
    with (run.root.local_path / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UserError(
                f"{run.root}: another search is running here (process {file.read().strip()}); "
                f"watch it with `foldblend status {run.root}`, or give this one another name="
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
