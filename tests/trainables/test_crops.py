from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from torchvision.transforms import RandomErasing, RandomResizedCrop

from trainables.crops import draw_crops, draw_rectangles, side_for_crops

SIMILAR = 1e-3  # seeds are fixed: what passes once passes always


def _same_distribution(ours: np.ndarray, theirs: np.ndarray) -> None:
    # Rounded, because torchvision rounds sides to whole pixels, also those of the fallback.
    assert ks_2samp(np.round(ours, 3), np.round(theirs, 3)).pvalue > SIMILAR


@pytest.mark.parametrize(("side", "cached"), [(32, 40), (64, 80), (224, 280), (225, 288), (8, 16)])
def test_where_training_crops_a_quarter_more_is_cached(side: int, cached: int) -> None:
    assert side_for_crops(side) == cached


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    least=st.floats(0.05, 0.99),
    ratio=st.floats(1.0, 4.0),
    aspect=st.floats(0.1, 10.0),
)
def test_a_crop_lies_within_the_image(seed: int, least: float, ratio: float, aspect: float) -> None:
    aspects = np.full(20, aspect, np.float32)
    boxes = draw_crops(aspects, least, ratio, np.random.default_rng(seed))
    assert (boxes[:, :2] >= 0.0).all()
    assert (boxes[:, 2:] > 0.0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= 1.0 + 1e-12).all()


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), least=st.floats(0.05, 0.99), ratio=st.floats(1.0, 2.0))
def test_area_and_ratio_of_a_crop_are_in_range(seed: int, least: float, ratio: float) -> None:
    boxes = draw_crops(np.ones(20, np.float32), least, ratio, np.random.default_rng(seed))
    areas, ratios = boxes[:, 2] * boxes[:, 3], boxes[:, 2] / boxes[:, 3]
    assert (areas >= least - 1e-9).all()
    assert (ratios >= 1 / ratio - 1e-9).all()
    assert (ratios <= ratio + 1e-9).all()


def test_what_never_fits_becomes_the_largest_middle_part_as_in_torchvision() -> None:
    boxes = draw_crops(np.array([4.0, 0.25], np.float32), 0.9, 4 / 3, np.random.default_rng(0))
    np.testing.assert_allclose(boxes[0], [1 / 3, 0.0, 1 / 3, 1.0], atol=1e-6)
    np.testing.assert_allclose(boxes[1], [0.0, 1 / 3, 1.0, 1 / 3], atol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(4000, 4000), (4000, 3000), (2000, 5000)])
def test_crops_are_distributed_as_torchvisions(width: int, height: int) -> None:
    n = 3000
    torch.manual_seed(0)
    image = torch.empty(3, height, width, device="meta")
    theirs = np.array(
        [RandomResizedCrop.get_params(image, [0.3, 1.0], [3 / 4, 4 / 3]) for _ in range(n)]
    )
    aspects = np.full(n, width / height, np.float32)
    ours = draw_crops(aspects, 0.3, 4 / 3, np.random.default_rng(1))
    top, left, tall, wide = (theirs / [height, width, height, width]).T
    _same_distribution(ours[:, 2] * ours[:, 3], wide * tall)
    _same_distribution(ours[:, 2] / ours[:, 3], wide / tall)
    _same_distribution(ours[:, 0], left)
    _same_distribution(ours[:, 1], top)


def test_erased_rectangles_are_distributed_as_torchvisions() -> None:
    n, size = 3000, 1000
    torch.manual_seed(0)
    image = torch.empty(3, size, size, device="meta")
    drawn = [RandomErasing.get_params(image, (0.02, 0.4), (0.3, 1 / 0.3), [0.0]) for _ in range(n)]
    top, left, tall, wide = np.array([one[:4] for one in drawn]).T
    ours = draw_rectangles(n, size, (0.02, 0.4), 1 / 0.3, np.random.default_rng(1))
    height, width = ours[:, 2] - ours[:, 0], ours[:, 3] - ours[:, 1]
    _same_distribution(height * width, tall * wide)
    _same_distribution(height / width, tall / wide)
    _same_distribution(ours[:, 0], top)
    _same_distribution(ours[:, 1], left)


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), size=st.integers(8, 300), most=st.floats(0.02, 1.0))
def test_a_rectangle_lies_within_the_square(seed: int, size: int, most: float) -> None:
    boxes = draw_rectangles(20, size, (0.02, most), 1 / 0.3, np.random.default_rng(seed))
    assert (boxes >= 0).all()
    assert (boxes <= size).all()
    assert (boxes[:, 2:] >= boxes[:, :2]).all()


def test_a_rectangle_that_never_fits_is_empty() -> None:
    assert not draw_rectangles(5, 10, (1.0, 1.0), 1.0, np.random.default_rng(0)).any()
