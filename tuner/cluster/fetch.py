"""`foldblend fetch`: a run's bundle, report and OOF store, from a cluster onto this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ensemble.files import Location
from tuner.cluster.connection import Connection
from tuner.cluster.contents import BUNDLE_FOLDER, What, contents
from tuner.cluster.copying import copy_items
from tuner.cluster.errand import Answer, run_errand
from tuner.cluster.landing import Landing, check_strays, landing
from tuner.cluster.names import find_job, is_run, run_name, run_of
from tuner.cluster.parcel import Receipt
from tuner.cluster.parcel_format import PART_BYTES, PackedFile
from tuner.cluster.transfer import RemoteParcel, download, read_manifest
from tuner.errors import UserError

PACK_COMMAND, DROP_COMMAND = "pack-run", "drop-parcel"
# As a run may be called (search_spaces.config): it becomes a folder here.
RUN_NAME = re.compile(r"\w[\w.-]{0,99}")
# Packing copies everything once, and may have to write a report first.
PACK_SECONDS = 4 * 3600.0
DROP_SECONDS = 60.0
# Where the keys of an object store may be. Without any, asking S3 takes a minute to fail.
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")
S3_FILES = (".aws/credentials", ".aws/config")

Open = Callable[[], Connection]


@dataclass(frozen=True)
class Fetched:
    """`folder`: DIR/<run name>; `size_bytes` of all that is there from this fetch, `came_bytes`
    of what had to be brought; `source`: from where."""

    folder: Path
    run: str
    names: tuple[str, ...]
    size_bytes: int
    came_bytes: int
    source: str

    @property
    def bundle(self) -> Path | None:
        has = any(name.startswith(f"{BUNDLE_FOLDER}/") for name in self.names)
        return self.folder / BUNDLE_FOLDER if has else None


def fetch(
    target: str, output: Path, what: tuple[What, ...], console: Console, connect: Open
) -> Fetched:
    """Bring `what` of a job or run to `output`/<run name>. `connect` is called where the cluster
    is needed: not for a run that this machine can read itself.

    UserError for a user's mistakes and a connection that stays broken; then the same call goes on
    from where it was."""
    connection = None if is_run(target) and _can_read(target) else connect()
    run = target if connection is None or is_run(target) else _run_of_job(connection, target)
    folder = output.expanduser() / _folder_name(run)
    with landing(folder, run) as landed:
        if connection is None or ("://" in run and _can_read(run)):
            return _copied(run, what, landed, console)
        return _through_dashboard(connection, run, what, landed, console)


def _through_dashboard(
    connection: Connection, run: str, what: tuple[What, ...], landed: Landing, console: Console
) -> Fetched:
    receipt = _packed(connection, run, what, console)
    source = RemoteParcel(connection, receipt)
    manifest = read_manifest(source, receipt.sha256)
    check_strays(landed, manifest.files)
    kept = landed.kept(manifest.files)
    with _bar(console, manifest.size_bytes) as progress:
        came = download(source, manifest, landed, kept, progress)
    landed.publish(run, manifest.files, kept)
    _drop(connection, receipt, console)
    return _fetched(landed, run, manifest.files, came, connection.address.url)


def _copied(run: str, what: tuple[What, ...], landed: Landing, console: Console) -> Fetched:
    with _busy(console, "looking at the run") as say:
        items = contents(run, what, say)
    with _bar(console, sum(item.size for item in items)) as progress:
        files, came = copy_items(items, landed, progress)
    check_strays(landed, files)
    landed.publish(run, files, kept=())
    return _fetched(landed, run, files, came, run)


def _packed(connection: Connection, run: str, what: tuple[What, ...], console: Console) -> Receipt:
    """Let the cluster pack the run; UserError with its own word where it cannot."""
    options = ["--what", ",".join(what), "--part-bytes", str(PART_BYTES)]
    command = ["foldblend", PACK_COMMAND, *options, "--", run]
    with _busy(console, "packing on the cluster"):
        answer = run_errand(connection, "fetch", command, seconds=PACK_SECONDS)
    receipt = Receipt.in_log(answer.log)
    if answer.code or receipt is None:
        raise UserError(f"{connection.address.url}: {_complaint(answer)}")
    return receipt


def _complaint(answer: Answer) -> str:
    """What the job on the cluster said last."""
    lines = [line.strip() for line in answer.log.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if any("No such command" in line for line in lines):
        return (
            "the cluster's foldblend knows no fetch; install the same foldblend there as here "
            "(`ray up` again, or a new image)"
        )
    if errors:
        return errors[-1]
    return f"packing ended with code {answer.code}: {(lines or ['it said nothing'])[-1][:300]}"


def _drop(connection: Connection, receipt: Receipt, console: Console) -> None:
    """Give the head its disk back. Everything is here by now: a failure costs nothing but room
    until the next fetch there."""
    command = ["foldblend", DROP_COMMAND, receipt.parcel]
    with _busy(console, "tidying up on the cluster"), suppress(UserError, KeyboardInterrupt):
        run_errand(connection, "fetch-end", command, seconds=DROP_SECONDS)


def _run_of_job(connection: Connection, target: str) -> str:
    job = find_job(target, connection.jobs())
    run = run_of(job)
    if run is None:
        raise UserError(
            f"{target}: this job was not made by `foldblend submit`, so nobody knows its run; "
            "give the run directory itself, as the cluster sees it"
        )
    return run


def _folder_name(run: str) -> str:
    name = run_name(run)
    if not RUN_NAME.fullmatch(name):
        raise UserError(f"{run}: expected a run directory such as /data/runs/cars, got {name!r}")
    return name


def _can_read(run: str) -> bool:
    """Whether this machine sees the run directory, with its own keys."""
    if run.startswith("s3://") and not _has_s3_keys():
        return False
    try:
        return (Location.of(run) / "run.yaml").exists()
    except (OSError, ValueError):
        return False


def _has_s3_keys() -> bool:
    home = Path(os.environ.get("HOME") or Path.home())
    return any(os.environ.get(name) for name in S3_KEYS) or any(
        (home / name).is_file() for name in S3_FILES
    )


def _fetched(
    landed: Landing, run: str, files: tuple[PackedFile, ...], came: int, source: str
) -> Fetched:
    names = tuple(file.name for file in files)
    return Fetched(landed.folder, run, names, sum(file.size for file in files), came, source)


@contextmanager
def _busy(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """A spinner with a word; silence off a terminal."""
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(text) as status:
        yield status.update


@contextmanager
def _bar(console: Console, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Bytes and rate; silence off a terminal."""
    columns = (
        TextColumn("fetching"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("fetching", total=total_bytes)
    with bar if console.is_terminal else nullcontext():
        yield lambda done: bar.update(task, completed=done)
