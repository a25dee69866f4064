from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from search_spaces.config import PreprocessConfig
from trainables.cache_bound import locked
from trainables.decoded_source import DecodedSource
from trainables.errors import DataError, OtherImagesError
from trainables.image_cache import ImageCache, cache_path, lock_path
from trainables.images import read_square
from trainables.manifest import content_digest
from trainables.preprocess import AS_IT_IS


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    generator = np.random.default_rng(0)
    names = [str(tmp_path / f"{row:02d}.jpg") for row in range(24)]
    for name in names:
        assert cv2.imwrite(name, generator.integers(0, 255, (20, 30, 3), dtype=np.uint8))
    return names


def cache_files(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if not name.endswith(".lock"))


def test_the_cache_holds_every_image_as_decoded(paths: list[str], tmp_path: Path) -> None:
    cache = ImageCache.open(paths, 16, tmp_path / "cache", "key")
    assert (len(cache), cache.size) == (24, 16)
    expected = np.stack([read_square(path, 16) for path in paths])
    np.testing.assert_array_equal(cache[np.arange(24)], expected)
    np.testing.assert_array_equal(cache[[7, 3, 7]], expected[[7, 3, 7]])
    np.testing.assert_array_equal(cache[np.arange(24) == 5], expected[5:6])
    np.testing.assert_array_equal(cache[5], expected[5:6])
    assert cache[[]].shape == (0, 16, 16, 3)


def test_rows_are_copies_that_may_be_written(paths: list[str], tmp_path: Path) -> None:
    cache = ImageCache.open(paths, 16, tmp_path / "cache", "key")
    before = cache[[0, 1]]
    cache[[0, 1]][:] = 0
    rows = cache[[0, 1]]
    rows[:] = 0
    np.testing.assert_array_equal(cache[[0, 1]], before)
    assert type(rows) is np.ndarray


def test_a_complete_cache_is_opened_without_the_images(paths: list[str], tmp_path: Path) -> None:
    first = ImageCache.open(paths, 16, tmp_path / "cache", "key")
    for path in paths:
        os.unlink(path)
    calls: list[int] = []
    again = ImageCache.open(
        paths, 16, tmp_path / "cache", "key", progress=lambda done, _: calls.append(done)
    )
    assert again.path == first.path
    assert calls == []
    np.testing.assert_array_equal(again[[3]], first[[3]])


def test_size_content_and_order_have_caches_of_their_own(paths: list[str], tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    caches = [
        ImageCache.open(paths, 16, directory, "key"),
        ImageCache.open(paths, 8, directory, "key"),
        ImageCache.open(paths, 16, directory, "other"),
        ImageCache.open(paths[::-1], 16, directory, "key"),
    ]
    assert len({cache.path for cache in caches}) == 4
    np.testing.assert_array_equal(caches[3][0], caches[0][23])


def test_progress_counts_to_the_end(paths: list[str], tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    ImageCache.open(paths, 8, tmp_path / "cache", "key", lambda *call: calls.append(call))
    assert calls == [(done, 24) for done in range(1, 25)]


def test_a_pickled_cache_carries_its_path_only(paths: list[str], tmp_path: Path) -> None:
    cache = ImageCache.open(paths, 16, tmp_path / "cache", "key")
    pickled = pickle.dumps(cache)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled)[[4, 2]], cache[[4, 2]])


def _open_counting(paths: list[str], directory: Path, barrier: object, results: object) -> None:
    """In a process of its own: report how many images this process decoded."""
    decoded = []
    barrier.wait(60)  # type: ignore[attr-defined]
    cache = ImageCache.open(paths, 16, directory, "key", lambda done, _: decoded.append(done))
    results.put((len(decoded), int(cache[np.arange(24)].sum())))  # type: ignore[attr-defined]


def test_two_processes_at_once_build_it_once(paths: list[str], tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    arguments = (paths, tmp_path / "cache", barrier, results)
    workers = [context.Process(target=_open_counting, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert sorted(decoded for decoded, _ in answers) == [0, 24]
    assert answers[0][1] == answers[1][1] > 0
    assert len(cache_files(tmp_path / "cache")) == 1


def _build_and_die(paths: list[str], directory: Path, size: int) -> None:
    """In a process of its own: be killed, as by the kernel, with half of the images written."""

    def kill_in_the_middle(done: int, total: int) -> None:
        if done == total // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    ImageCache.open(paths, size, directory, "key", kill_in_the_middle)


def test_who_waits_for_another_process_says_so(
    paths: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = cache_path(tmp_path / "cache", paths, 16, "key", AS_IT_IS)
    path.parent.mkdir()
    with caplog.at_level(logging.INFO, logger="trainables"), ThreadPoolExecutor(1) as pool:
        with locked(lock_path(path)):
            waiting = pool.submit(ImageCache.open, paths, 16, path.parent, "key")
            while not caplog.messages:
                time.sleep(0.01)
        assert len(waiting.result()) == len(paths)
    assert caplog.messages[0].startswith("another process of this machine decodes the images")


def test_a_cache_that_is_not_what_was_expected_does_not_come_to_be(
    paths: list[str], tmp_path: Path
) -> None:
    asked: list[Sequence[str]] = []

    def refuse(digests: Sequence[str]) -> None:
        asked.append(digests)
        raise OtherImagesError("other images")

    with pytest.raises(OtherImagesError):
        ImageCache.open(paths, 16, tmp_path, "key", verify=refuse)
    assert not list(tmp_path.glob("*.npy"))
    assert not list(tmp_path.glob("*.tmp"))
    assert asked == [[content_digest(Path(path).read_bytes()) for path in paths]]
    ImageCache.open(paths, 16, tmp_path, "key", verify=asked.append)
    ImageCache.open(paths, 16, tmp_path, "key", verify=refuse)  # it was asked when it was built
    assert len(asked) == 2


@pytest.mark.parametrize("size", [16, 8])
def test_what_a_killed_builder_left_is_replaced(
    paths: list[str], tmp_path: Path, size: int
) -> None:
    """By a builder of the same cache (16), and by one of another cache in the same folder (8)."""
    worker = multiprocessing.get_context("spawn").Process(
        target=_build_and_die, args=(paths, tmp_path / "cache", 16)
    )
    worker.start()
    worker.join(120)
    assert worker.exitcode == -signal.SIGKILL
    (left,) = cache_files(tmp_path / "cache")
    assert left.endswith(".tmp")
    cache = ImageCache.open(paths, size, tmp_path / "cache", "key")
    assert cache_files(tmp_path / "cache") == [cache.path.name]
    expected = np.stack([read_square(path, size) for path in paths])
    np.testing.assert_array_equal(cache[np.arange(24)], expected)


def test_an_unreadable_image_is_named_and_leaves_nothing(paths: list[str], tmp_path: Path) -> None:
    Path(paths[5]).write_bytes(b"")
    with pytest.raises(DataError, match=r"05.jpg: the file is empty"):
        ImageCache.open(paths, 16, tmp_path / "cache", "key")
    assert cache_files(tmp_path / "cache") == []


def test_a_disk_too_small_is_found_before_decoding(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ImageCache.open(paths, 16, tmp_path / "other", "key")[[3, 1]]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    calls: list[int] = []
    source = ImageCache.open(
        paths, 16, tmp_path / "cache", "key", lambda done, _: calls.append(done)
    )
    assert isinstance(source, DecodedSource)
    assert calls == []
    assert "0.0188 MB" in source.why
    assert "set data.cache_dir to another disk" in source.why
    assert cache_files(tmp_path / "cache") == []
    np.testing.assert_array_equal(source[[3, 1]], expected)


@pytest.mark.parametrize("call", ["pwrite", "posix_fallocate"])
def test_a_disk_that_fills_up_leaves_nothing_and_images_are_decoded_on_the_fly(
    call: str, paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    source = ImageCache.open(paths, 16, tmp_path / "cache", "key")
    assert isinstance(source, DecodedSource)
    assert "disk filled up" in source.why
    assert "\n" not in source.why
    assert cache_files(tmp_path / "cache") == []


def test_a_disk_that_cannot_reserve_is_written_all_the_same(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    assert isinstance(ImageCache.open(paths, 16, tmp_path / "cache", "key"), ImageCache)


def test_a_broken_disk_is_an_error_that_names_the_file(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(OSError, match="Input/output error") as caught:
        ImageCache.open(paths, 16, tmp_path / "cache", "key")
    assert caught.value.filename.endswith(".npy")
    assert cache_files(tmp_path / "cache") == []


def test_short_writes_are_completed(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: whole(file, data[:100], at))
    cache = ImageCache.open(paths, 16, tmp_path / "cache", "key")
    np.testing.assert_array_equal(cache[3][0], read_square(paths[3], 16))


# --- shapes, steps, room -----------------------------------------------------------------------


def test_the_ratios_of_the_originals_are_kept(paths: list[str], tmp_path: Path) -> None:
    assert cv2.imwrite(paths[2], np.zeros((40, 10, 3), np.uint8))
    cache = ImageCache.open(paths, 16, tmp_path / "cache", "key")
    assert cache.aspects.dtype == np.float32
    assert cache.aspects.tolist() == [1.5, 1.5, 0.25] + [1.5] * 21
    again = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(again.aspects, cache.aspects)


def test_what_changes_pixels_has_a_cache_of_its_own(paths: list[str], tmp_path: Path) -> None:
    grey, plain, letterbox = (
        ImageCache.open(paths, 16, tmp_path / "cache", "key", preprocess=preprocess)
        for preprocess in (
            PreprocessConfig(grey=True),
            PreprocessConfig(),
            PreprocessConfig(resize="letterbox", fill=255),
        )
    )
    assert isinstance(grey, ImageCache)
    assert isinstance(plain, ImageCache)
    assert isinstance(letterbox, ImageCache)
    assert grey.path != plain.path == letterbox.path
    assert (grey[[3]][..., 0] == grey[[3]][..., 1]).all()


def test_rows_are_taken_into_a_given_buffer(paths: list[str], tmp_path: Path) -> None:
    cache = ImageCache.open(paths, 16, tmp_path / "cache", "key")
    buffer = np.zeros((3, 16, 16, 3), np.uint8)
    assert cache.take([5, -1, 5], buffer) is buffer
    np.testing.assert_array_equal(buffer, cache[[5, 23, 5]])
    cache.take([], buffer[:0])
    for rows, out, problem in (
        ([24, 0, 0], buffer, "rows 0 to 24 of 24 images"),
        ([-25, 0, 0], buffer, "rows -25 to 0 of 24 images"),
        ([0.5, 1, 2], buffer, "integers"),
        ([0, 1], buffer, "expected out of"),
        ([0, 1, 2], buffer.astype(np.int64), "expected out of"),
    ):
        with pytest.raises((IndexError, ValueError), match=problem):
            cache.take(rows, out)


def test_no_images_make_an_empty_cache(tmp_path: Path) -> None:
    cache = ImageCache.open([], 16, tmp_path / "cache", "key")
    assert (len(cache), cache.size, cache.aspects.shape) == (0, 16, (0,))


def test_a_file_of_squares_alone_has_ratios_of_one(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 8, 3), np.uint8))
    assert ImageCache(tmp_path / "a.npy").aspects.tolist() == [1, 1, 1]
    np.save(tmp_path / "b.npy", np.zeros((3, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match=r"b\.npy: expected \(N, S, S, 3\) uint8"):
        ImageCache(tmp_path / "b.npy")


def test_nothing_is_cached_with_a_limit_of_zero(paths: list[str], tmp_path: Path) -> None:
    ImageCache.open(paths, 16, tmp_path / "cache", "key")
    source = ImageCache.open(paths, 16, tmp_path / "cache", "key", limit_bytes=0)
    assert isinstance(source, DecodedSource)
    assert "data.cache_gb is 0" in source.why


def test_the_longest_unused_cache_makes_room(paths: list[str], tmp_path: Path) -> None:
    """Each holds 24 * (768 + 4) bytes and 256 of headers: two fit into 40,000."""
    directory = tmp_path / "cache"

    def opened(key: str) -> object:
        return ImageCache.open(paths, 16, directory, key, limit_bytes=40_000)

    for age, key in ((300, "first"), (200, "second")):
        path = opened(key).path  # type: ignore[attr-defined]
        used = path.stat().st_mtime - age
        os.utime(path, (used, used))
    opened("first")  # used now: the second is the older one
    opened("third")
    assert [name.split("-")[0] for name in cache_files(directory)] == ["first", "third"]


def test_a_cache_in_use_stays_and_the_next_decodes_on_the_fly(
    paths: list[str], tmp_path: Path
) -> None:
    directory = tmp_path / "cache"
    first = ImageCache.open(paths, 16, directory, "first", limit_bytes=30_000)
    assert isinstance(first, ImageCache)
    second = ImageCache.open(paths, 16, directory, "second", limit_bytes=30_000)
    assert isinstance(second, DecodedSource)
    assert second.why.endswith("may take 0.03 MB in all; raise data.cache_gb")
    np.testing.assert_array_equal(second[[4]], first[[4]])
    del first
    third = ImageCache.open(paths, 16, directory, "third", limit_bytes=30_000)
    assert isinstance(third, ImageCache)
    assert cache_files(directory) == [third.path.name]
