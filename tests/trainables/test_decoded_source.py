from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from search_spaces.config import PreprocessConfig
from tests.trainables.odd_images import encoded, picture, sound_files
from trainables.decoded_source import DecodedSource, row_numbers
from trainables.errors import UnreadableImageError
from trainables.image_cache import ImageCache


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Every odd kind of file, and a JPEG large enough to be decoded at a reduced scale."""
    files = {**sound_files(), "large.jpg": encoded(picture(301, 407), "JPEG")}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return [str(tmp_path / name) for name in files]


@pytest.mark.parametrize("preprocess", [PreprocessConfig(), PreprocessConfig(clahe=True)])
def test_pixels_and_ratios_are_those_of_the_cache(
    paths: list[str], tmp_path: Path, preprocess: PreprocessConfig
) -> None:
    cache = ImageCache.open(paths, 32, tmp_path / "cache", "key", preprocess=preprocess)
    source = DecodedSource(paths, 32, preprocess)
    assert isinstance(cache, ImageCache)
    assert (len(source), source.size) == (len(cache), cache.size)
    rows = np.arange(len(paths))
    np.testing.assert_array_equal(source[rows], cache[rows])
    np.testing.assert_array_equal(source[rows == 5], cache[rows == 5])
    np.testing.assert_array_equal(source[-1], cache[-1])
    assert source.aspects.dtype == np.float32
    np.testing.assert_array_equal(source.aspects, cache.aspects)


def test_rows_are_decoded_into_a_given_buffer(paths: list[str]) -> None:
    source = DecodedSource(paths, 16, threads=2)
    buffer = np.zeros((3, 16, 16, 3), np.uint8)
    assert source.take([2, 0, 2], buffer) is buffer
    np.testing.assert_array_equal(buffer, source[[2, 0, 2]])
    assert source[[]].shape == (0, 16, 16, 3)
    with pytest.raises(ValueError, match=r"expected out of \(2, 16, 16, 3\) uint8, got \(3,"):
        source.take([0, 1], buffer)


def test_it_is_pickled_with_all_it_needs(paths: list[str]) -> None:
    source = DecodedSource(paths, 16, PreprocessConfig(grey=True), "the disk is full", threads=2)
    again = pickle.loads(pickle.dumps(source))
    assert (again.why, again.threads, again.size) == ("the disk is full", 2, 16)
    np.testing.assert_array_equal(again[[1, 3]], source[[1, 3]])


def test_a_file_that_went_away_is_named(paths: list[str]) -> None:
    Path(paths[1]).unlink()
    source = DecodedSource(paths, 16)
    for use in (lambda: source[[0, 1]], lambda: source.aspects):
        with pytest.raises(UnreadableImageError, match=r"progressive\.jpg: No such file"):
            use()


def test_row_numbers_count_from_the_front() -> None:
    assert row_numbers([0, -1, 2], 4).tolist() == [0, 3, 2]
    assert row_numbers([True, False, True], 3).tolist() == [0, 2]
    assert row_numbers(1, 3).tolist() == [1]
    assert row_numbers([], 3).tolist() == []


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([4], "rows 4 to 4 of 4 images"),
        ([0, -5], "rows -5 to 0 of 4 images"),
        ([0.0], "integers"),
        ([[0, 1]], "integers"),
        ([True, False], r"expected a mask \(4,\), got \(2,\)"),
    ],
)
def test_rows_that_are_not_there_are_refused(rows: list[object], problem: str) -> None:
    with pytest.raises(IndexError, match=problem):
        row_numbers(rows, 4)
