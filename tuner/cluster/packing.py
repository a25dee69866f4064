"""What travels to the cluster with a search: the command, and the YAML files of a --config-dir."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuner.own_groups import yaml_files

# Ray's default is 3: too short to end an epoch and write a checkpoint.
STOP_SECONDS = 900
# Set in every job of ours.
JOB_VARIABLE = "FOLDBLEND_JOB"
# Where the job stands: Ray unpacks the working_dir and goes there.
UNPACKED = "."


def search_command(overrides: Sequence[str], *, packed: bool) -> str:
    """The job's command line; `packed`: with a --config-dir that travels along."""
    folder = ["--config-dir", UNPACKED] if packed else []
    return shlex.join(["foldblend", "search", *folder, "--", *overrides])


def resume_command(run: str) -> str:
    return shlex.join(["foldblend", "search", "--resume", run])


def runtime_env(job_id: str, working_dir: Path | None = None) -> dict[str, Any]:
    """The job's environment: time to end its epochs when it is stopped, a log without delay."""
    found: dict[str, Any] = {
        "env_vars": {
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
            "FOLDBLEND_PROGRESS": "lines",  # see `tuner/progress_line.py`
            "PYTHONUNBUFFERED": "1",
            JOB_VARIABLE: job_id,
        }
    }
    return found | ({"working_dir": str(working_dir)} if working_dir else {})


def is_job() -> bool:
    """Whether this process is one of our jobs on a cluster."""
    return JOB_VARIABLE in os.environ


@contextmanager
def packed(config_dir: Path | None) -> Iterator[Path | None]:
    """A temporary copy of a folder with its YAML files alone: data, models or a token that lie
    beside them stay here. None for None."""
    if config_dir is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="foldblend-") as folder:
        for file in yaml_files(config_dir):
            place = Path(folder) / file.relative_to(config_dir)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        yield Path(folder)
