"""What of a run goes along: the bundle, the report and its tables, the OOF store.

Each file keeps its place in the run directory, and the bundle lies beside them, so that what
arrives is itself a run directory without weights: `foldblend blend` and `report` work on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from pyarrow.fs import FileInfo, FileSelector, FileType

from ensemble.files import Location
from ensemble.filesystems import open_filesystem
from tuner.errors import UserError
from tuner.run_directory import RunDirectory

if TYPE_CHECKING:
    from tuner.replayed import StoredRun

What = Literal["bundle", "report", "oof"]
EVERYTHING: tuple[What, ...] = get_args(What)
BUNDLE_FOLDER = "bundle"
# The run itself, small, with everything: without it neither table nor store says what it is.
ALWAYS = ("run.yaml", "folds.parquet", "test.parquet", "blend.json", "journal")
OF_REPORT = (
    *("report.html", "analysis", "blend_oof.parquet", "fold_runs.parquet"),
    *("submission.csv", "dropped.csv", "search.log"),
)
OF_OOF = ("oof", "test")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Item:
    """One file. `name`: its place in what arrives; `source`: where it lies, or its bytes.

    `size` in bytes: what is read, even where the file has grown since (a journal does).
    `changed_ns`: when it changed last, in nanoseconds since the epoch; 0 for bytes."""

    name: str
    source: Location | bytes
    size: int
    changed_ns: int


def parse_what(text: str | None) -> tuple[What, ...]:
    """`bundle,report,oof` in any order, as a value; everything where nothing is given."""
    if text is None:
        return EVERYTHING
    names = {name.strip() for name in text.split(",")}
    if unknown := sorted(names - set(EVERYTHING)):
        raise UserError(
            f"--what {text}: expected some of {', '.join(EVERYTHING)}, got {unknown[0]!r}"
        )
    return tuple(one for one in EVERYTHING if one in names)


def contents(run: str, what: Iterable[What], say: Say) -> tuple[Item, ...]:
    """Every file, in an order that stays as long as the run does; what is made anew each time
    (`ensemble.json`) comes last.

    The blend and the report are made first where they are missing or older than the journal.
    UserError or DataError where there is no run, or `bundle` is asked for and no member there."""
    from tuner.replayed import read_run

    stored = read_run(run)
    chosen = set(what)
    _bring_up_to_date(stored, chosen, say)
    names = [*ALWAYS]
    names += OF_OOF if "oof" in chosen else ()
    names += OF_REPORT if "report" in chosen else ()
    root = stored.directory.root
    items = [item for name in names for item in listed(root, name)]
    return tuple(_bundle_items(run) + items if "bundle" in chosen else items)


def listed(root: Location, name: str) -> list[Item]:
    """The file `root`/`name`, or every file below that folder, by name; [] where there is none.
    Names that begin with a dot are half-written files: they stay."""
    filesystem, path = open_filesystem((root / name).uri)
    info = filesystem.get_file_info(path)
    if info.type == FileType.File:
        return [_item(root, name, info)]
    if info.type == FileType.NotFound:
        return []
    selector = FileSelector(path, recursive=True, allow_not_found=True)
    found = {
        f"{name}/{one.path[len(path) :].strip('/')}": one
        for one in filesystem.get_file_info(selector)
        if one.type == FileType.File
    }
    whole = {key: one for key, one in found.items() if "/." not in key}
    return [_item(root, key, whole[key]) for key in sorted(whole)]


def _item(root: Location, name: str, info: FileInfo) -> Item:
    return Item(name, root / name, info.size, info.mtime_ns or 0)


def _bundle_items(run: str) -> list[Item]:
    from trainables.bundle import bundle_files

    return [_of_bundle(file.name, file.content) for file in bundle_files(run)[1]]


def _of_bundle(name: str, content: Location | bytes) -> Item:
    name = f"{BUNDLE_FOLDER}/{name}"
    if isinstance(content, bytes):
        return Item(name, content, len(content), 0)
    filesystem, path = open_filesystem(content.uri)
    info = filesystem.get_file_info(path)
    return Item(name, content, info.size, info.mtime_ns or 0)


def _bring_up_to_date(stored: StoredRun, chosen: set[What], say: Say) -> None:
    from tuner.finish import blend_stored, require_members
    from tuner.report_command import report_run

    directory = stored.directory
    if "bundle" in chosen:
        require_members(stored)
    if stored.race.members and _is_older(directory, "blend.json", "journal"):
        say("blending the members so far")
        blend_stored(stored, say=say)
    if "report" in chosen and _is_older(directory, "report.html", "journal", "blend.json"):
        say("writing the report")
        report_run(stored, say)


def _is_older(run: RunDirectory, name: str, *than: str) -> bool:
    """Whether a file is missing, or something has changed since it was written."""
    own = listed(run.root, name)
    others = [item.changed_ns for other in than for item in listed(run.root, other)]
    return not own or own[0].changed_ns < max(others, default=0)
