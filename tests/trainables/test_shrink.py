from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.shrink import shrink


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_whole_blocks_are_averaged_and_rounded_half_up() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    image[0, 0] = (1, 2, 3)  # of four pixels: 0.25, 0.5, 0.75
    image[:, 2:] = 255
    assert shrink(image, 2, 1).tolist() == [[[0, 1, 1], [255, 255, 255]]]


def test_a_pixel_on_the_border_counts_by_its_share() -> None:
    image = np.array([[[90, 0, 255], [30, 60, 255], [0, 9, 255]]], np.uint8)
    # (90 + 30 / 2) / 1.5 = 70, (0 + 60 / 2) / 1.5 = 20; (30 / 2 + 0) / 1.5 = 10, 39 / 1.5 = 26
    assert shrink(image, 2, 1).tolist() == [[[70, 20, 255], [10, 26, 255]]]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.data())
def test_it_agrees_with_opencv(height: int, width: int, data: st.DataObject) -> None:
    to = data.draw(st.integers(1, width)), data.draw(st.integers(1, height))
    image = noise(height, width, seed=height * 71 + width)
    expected = cv2.resize(image, to, interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(shrink(image, *to) - expected).max() <= 1


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_an_even_colour_stays(level: int) -> None:
    image = np.full((97, 83, 3), level, np.uint8)
    assert set(np.unique(shrink(image, 31, 17)).tolist()) == {level}


def test_the_same_size_is_the_same_image_and_a_copy() -> None:
    image = noise(7, 5)
    same = shrink(image, 5, 7)
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)


def test_views_and_read_only_images_shrink_alike() -> None:
    image = noise(40, 60)
    locked = image.copy()
    locked.flags.writeable = False
    expected = shrink(np.ascontiguousarray(image[:, ::-1]), 20, 20)
    np.testing.assert_array_equal(shrink(image[:, ::-1], 20, 20), expected)
    np.testing.assert_array_equal(shrink(locked, 20, 20), shrink(image, 20, 20))


@pytest.mark.parametrize("to", [(61, 40), (60, 41), (0, 40), (60, 0)])
def test_growing_is_refused(to: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="60 x 40 image cannot shrink to"):
        shrink(noise(40, 60), *to)


def test_a_last_pixel_that_counts_in_part_only() -> None:
    image = np.array([[[10] * 3, [20] * 3, [40] * 3]], np.uint8)
    # 2.5 pixels to two of 1.25: (10 + 20 / 4) / 1.25 = 12, (20 * 3 / 4 + 40 / 2) / 1.25 = 28
    assert shrink(image, 2, 1, (2.5, 1))[0, :, 0].tolist() == [12, 28]


@pytest.mark.parametrize("extent", [(59, 40), (60.5, 40), (60, 39), (60, 41)])
def test_an_extent_that_leaves_out_a_whole_pixel_is_refused(extent: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="is not that of 60 x 40"):
        shrink(noise(40, 60), 20, 20, extent)
