from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from search_spaces.config import PreprocessConfig
from trainables.cache_builder import CacheBuilder
from trainables.cache_writer import CacheWriter
from trainables.checks import check_data
from trainables.errors import DataError
from trainables.image_cache import ImageCache
from trainables.images import read_square
from trainables.manifest import Manifest

GREY = PreprocessConfig(grey=True)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    generator = np.random.default_rng(0)
    names = [str(tmp_path / f"{row}.png") for row in range(6)]
    for width, name in enumerate(names, start=10):
        assert cv2.imwrite(name, generator.integers(0, 255, (10, width, 3), dtype=np.uint8))
    return names


def build(
    paths: list[str], directory: Path, kept: list[str], key: str = "key", limit: int | None = None
) -> None:
    with CacheBuilder(paths, 8, directory, preprocess=GREY, limit_bytes=limit) as builder:
        for row, path in enumerate(paths):
            if path in kept:
                builder.store(row, Path(path).read_bytes(), path)
        builder.finish(kept, key)


def cache_files(directory: Path) -> list[str]:
    names = os.listdir(directory) if directory.exists() else []
    return sorted(name for name in names if not name.endswith(".lock"))


@pytest.mark.parametrize("left_out", [[], [0], [2, 5], [0, 1, 2, 3, 4]])
def test_the_cache_of_what_is_left_is_found_by_open(
    paths: list[str], tmp_path: Path, left_out: list[int]
) -> None:
    kept = [path for row, path in enumerate(paths) if row not in left_out]
    expected = ImageCache.open(kept, 8, tmp_path / "other", "key", preprocess=GREY)
    build(paths, tmp_path / "cache", kept)
    calls: list[int] = []
    cache = ImageCache.open(
        kept, 8, tmp_path / "cache", "key", lambda done, _: calls.append(done), preprocess=GREY
    )
    assert calls == []
    rows = np.arange(len(kept))
    np.testing.assert_array_equal(cache[rows], expected[rows])
    np.testing.assert_array_equal(cache.aspects, expected.aspects)
    assert len(cache_files(tmp_path / "cache")) == 1


def test_an_unreadable_image_is_raised_and_left_without_finish_there_is_nothing(
    paths: list[str], tmp_path: Path
) -> None:
    builder = CacheBuilder(paths, 8, tmp_path / "cache")
    with pytest.raises(DataError, match=r"0\.png: not an image"), builder:
        builder.store(0, b"text", "0.png")
    assert cache_files(tmp_path / "cache") == []


def test_images_that_lie_there_under_another_key_are_only_looked_at(
    paths: list[str], tmp_path: Path
) -> None:
    build(paths, tmp_path / "cache", paths, "first")
    build(paths, tmp_path / "cache", paths, "second")
    assert [name.split("-")[0] for name in cache_files(tmp_path / "cache")] == ["first"]


def test_of_two_at_once_one_stores(paths: list[str], tmp_path: Path) -> None:
    with CacheBuilder(paths, 8, tmp_path / "cache", preprocess=GREY) as first:
        build(paths, tmp_path / "cache", paths, "second")
        assert len(cache_files(tmp_path / "cache")) == 1  # the first's, not finished
        for row, path in enumerate(paths):
            first.store(row, Path(path).read_bytes(), path)
        first.finish(paths, "first")
    assert [name.split("-")[0] for name in cache_files(tmp_path / "cache")] == ["first"]


@pytest.mark.parametrize("limit", [0, 100])
def test_without_room_images_are_only_looked_at(
    paths: list[str], tmp_path: Path, limit: int
) -> None:
    build(paths, tmp_path / "cache", paths, limit=limit)
    assert cache_files(tmp_path / "cache") == []


def test_a_disk_that_fills_up_ends_the_storing_not_the_looking(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    build(paths, tmp_path / "cache", paths)
    assert cache_files(tmp_path / "cache") == []


def test_a_disk_that_fills_up_disturbs_no_thread_that_is_writing(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_write, disk_was_full = threading.Barrier(2, timeout=60), threading.Event()
    real = CacheWriter.put

    def put(writer: CacheWriter, row: int, *given: Any) -> None:
        both_write.wait()
        if row == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        assert disk_was_full.wait(timeout=60)
        real(writer, row, *given)

    monkeypatch.setattr(CacheWriter, "put", put)
    with CacheBuilder(paths, 8, tmp_path / "cache") as builder, ThreadPoolExecutor(2) as pool:
        contents = [Path(path).read_bytes() for path in paths]
        first, second = (pool.submit(builder.store, row, contents[row], "x") for row in (0, 1))
        first.result()
        disk_was_full.set()
        second.result()
        builder.store(2, contents[2], "x")  # is looked at and not stored
        builder.finish(paths, "key")
    assert cache_files(tmp_path / "cache") == []


def test_paths_that_are_not_what_is_left_give_no_cache(paths: list[str], tmp_path: Path) -> None:
    with CacheBuilder(paths, 8, tmp_path / "cache") as builder:
        for row, path in enumerate(paths):
            builder.store(row, Path(path).read_bytes(), path)
        builder.finish(paths[::-1], "key")
    assert cache_files(tmp_path / "cache") == []


def test_the_check_of_the_data_stores_what_it_decodes(paths: list[str], tmp_path: Path) -> None:
    """One bad training image is dropped, and its row with it."""
    Path(paths[1]).write_bytes(b"text")
    labels = np.array([0, 0, 1, 1, 0])
    manifest = Manifest(
        ids=tuple("abcde"),
        paths=tuple(paths[:5]),
        labels=labels,
        groups=None,
        classes=("cat", "dog"),
        label_values=("0", "1"),
        test_ids=("t",),
        test_paths=tuple(paths[5:]),
    )
    with CacheBuilder(paths, 8, tmp_path / "cache") as builder:
        checked = check_data(
            manifest, k=2, kind="stratified", on_bad_image="drop", decode=builder.store
        )
        left = (*checked.manifest.paths, *checked.manifest.test_paths)
        builder.finish(left, checked.fingerprint)
    assert len(left) == 5
    calls: list[int] = []
    cache = ImageCache.open(
        left, 8, tmp_path / "cache", checked.fingerprint, lambda done, _: calls.append(done)
    )
    assert calls == []
    np.testing.assert_array_equal(cache[1][0], read_square(paths[2], 8))
