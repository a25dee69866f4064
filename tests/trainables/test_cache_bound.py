from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trainables.cache_bound import locked, open_in_use, room_lock, why_no_room
from trainables.cache_writer import read_cache
from trainables.image_cache import ImageCache

SQUARES = np.arange(10 * 8 * 8 * 3, dtype=np.uint8).reshape(10, 8, 8, 3)
BYTES = 128 + SQUARES.nbytes


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three cache files, the first the longest unused."""
    made = [tmp_path / f"key{number}-0123abcd-8px-v2.npy" for number in range(3)]
    for age, path in enumerate(reversed(made)):
        np.save(path, SQUARES)
        os.utime(path, (1e9 - age, 1e9 - age))
    return made


def left(directory: Path) -> list[str]:
    return sorted(path.name[:4] for path in directory.glob("*px*"))


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (4 * BYTES, ["key0", "key1", "key2"]),
        (4 * BYTES - 1, ["key1", "key2"]),
        (2 * BYTES, ["key2"]),
        (BYTES, []),
    ],
)
def test_the_longest_unused_go_until_it_fits(
    files: list[Path], tmp_path: Path, limit: int, kept: list[str]
) -> None:
    assert why_no_room(tmp_path, BYTES, limit) == ""
    assert left(tmp_path) == kept


def test_nothing_is_deleted_where_it_does_not_help(files: list[Path], tmp_path: Path) -> None:
    why = why_no_room(tmp_path, BYTES, BYTES - 1)
    assert why == (
        f"decoded images need 0.00205 MB, those in {tmp_path} may take 0.00205 MB in all; "
        "raise data.cache_gb"
    )
    assert left(tmp_path) == ["key0", "key1", "key2"]


def test_without_a_limit_half_of_the_disk_is_ours(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=BYTES))
    assert why_no_room(tmp_path, BYTES, None) == ""  # of four, two
    assert left(tmp_path) == ["key2"]
    why = why_no_room(tmp_path, 2 * BYTES, None)
    assert why.endswith("has 0.00205 MB free; set data.cache_dir to another disk")


def test_a_limit_above_what_the_disk_has_is_no_room(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert why_no_room(tmp_path, BYTES, 10**12) == ""
    assert left(tmp_path) == ["key1", "key2"]
    assert "0 MB free; set data.cache_dir" in why_no_room(tmp_path, 10 * BYTES, 10**12)


def test_what_is_being_written_counts_and_other_peoples_files_stay(
    files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "new-0123abcd-8px-v2.npy.tmp").write_bytes(bytes(BYTES))
    (tmp_path / "holiday.npy").write_bytes(bytes(10 * BYTES))
    assert why_no_room(tmp_path, BYTES, 3 * BYTES) == ""
    assert left(tmp_path) == ["key2", "new-"]
    assert why_no_room(tmp_path, 2 * BYTES, 2 * BYTES) != ""
    assert (tmp_path / "holiday.npy").exists()


def test_a_mapped_file_stays_for_as_long_as_the_map(files: list[Path], tmp_path: Path) -> None:
    with open_in_use(files[0]) as file:
        pixels, _ = read_cache(file)
    view = pixels[3:4]
    del pixels
    assert why_no_room(tmp_path, BYTES, 3 * BYTES) == ""
    assert left(tmp_path) == ["key0", "key2"]
    assert int(view.sum()) == int(SQUARES[3].sum())
    del view
    assert why_no_room(tmp_path, BYTES, BYTES) == ""
    assert left(tmp_path) == []


def test_opening_a_file_makes_it_the_last_to_go(files: list[Path], tmp_path: Path) -> None:
    ImageCache(files[0])
    assert why_no_room(tmp_path, BYTES, 2 * BYTES) == ""
    assert left(tmp_path) == ["key0"]


def test_a_file_deleted_while_it_was_opened_is_not_there(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_first(_: Any) -> None:
        files[0].unlink()

    monkeypatch.setattr("trainables.cache_bound.mark_in_use", delete_first)
    with pytest.raises(FileNotFoundError, match="deleted to make room"):
        open_in_use(files[0])


def _hold(path: Path, ready: Any) -> None:
    """In a process of its own: map a file and keep it."""
    cache = ImageCache(path)
    ready.set()
    signal.pause()
    del cache


@pytest.fixture
def holding() -> Any:
    """Start a process that maps a file; returns it once it has."""
    started = []

    def start(path: Path) -> Any:
        context = multiprocessing.get_context("spawn")
        ready = context.Event()
        process = context.Process(target=_hold, args=(path, ready))
        process.start()
        started.append(process)
        assert ready.wait(120)
        return process

    yield start
    for process in started:
        process.kill()
        process.join(60)


def test_a_file_that_another_process_has_mapped_stays_until_it_is_killed(
    files: list[Path], tmp_path: Path, holding: Callable[[Path], Any]
) -> None:
    process = holding(files[0])
    assert why_no_room(tmp_path, BYTES, BYTES) != ""
    assert why_no_room(tmp_path, BYTES, 2 * BYTES) == ""
    assert left(tmp_path) == ["key0"]
    process.kill()
    process.join(60)
    assert why_no_room(tmp_path, BYTES, BYTES) == ""
    assert left(tmp_path) == []


def test_a_lock_taken_is_not_waited_for_where_one_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with locked(path), pytest.raises(BlockingIOError), locked(path, wait=False):
        pass
    with locked(path, wait=False), room_lock(tmp_path):
        pass
