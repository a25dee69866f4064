from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from trainables.cache_writer import CacheWriter, file_bytes, read_cache

SQUARES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
ASPECTS = np.linspace(0.25, 4, 12).astype(np.float32)


def written(directory: Path, order: list[int] | None = None) -> CacheWriter:
    writer = CacheWriter(directory / "a.npy.tmp", 12, 8)
    for row in order or range(12):
        writer.put(row, SQUARES[row], float(ASPECTS[row]))
    return writer


@pytest.mark.parametrize("rows", [None, list(range(12)), [0, 3, 4, 11], [5], []])
def test_what_is_put_in_any_order_is_read_back(tmp_path: Path, rows: list[int] | None) -> None:
    writer = written(tmp_path, [3, 1, 0, 2, 11, 10, 9, 8, 4, 5, 7, 6])
    path = tmp_path / "a.npy"
    writer.complete(path, rows).close()
    expected = list(range(12)) if rows is None else rows
    with path.open("rb") as file:
        squares, aspects = read_cache(file)
    np.testing.assert_array_equal(squares, SQUARES[expected])
    np.testing.assert_array_equal(aspects, ASPECTS[expected])
    assert len(expected) == 0 or not squares.flags.writeable
    assert path.stat().st_size == file_bytes(len(expected), 8)
    assert os.listdir(tmp_path) == ["a.npy"]


def test_numpy_reads_the_squares(tmp_path: Path) -> None:
    written(tmp_path).complete(tmp_path / "a.npy").close()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), SQUARES)


def test_the_room_is_taken_at_once_and_given_back(tmp_path: Path) -> None:
    writer = CacheWriter(tmp_path / "a.npy.tmp", 12, 8)
    assert (tmp_path / "a.npy.tmp").stat().st_size == file_bytes(12, 8)
    writer.abandon()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        CacheWriter(tmp_path / "a.npy.tmp", 12, 8)
    assert caught.value.filename == str(tmp_path / "a.npy.tmp")
    assert os.listdir(tmp_path) == []


def test_a_rename_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    writer = written(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        writer.complete(tmp_path / "gone" / "a.npy")
    assert os.listdir(tmp_path) == []


def test_ratios_that_are_cut_off_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    written(tmp_path).complete(path).close()
    os.truncate(path, path.stat().st_size - 5)
    with path.open("rb") as file, pytest.raises(ValueError, match=r"a\.npy: .* are cut off"):
        read_cache(file)
