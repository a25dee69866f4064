"""On torch's CPU device: the same draws give the same pixels as the compiled pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.config import AugmentConfig, PreprocessConfig
from tests.trainables.pictures import squares
from trainables import cpu_augment, device_augment
from trainables.draws import Draws, draw_batch, plain_draws
from trainables.mixing import draw_mix

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEVEL = 1 / 255 / min(STD)
COLOUR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "erase": 0.5}
POLICIES: dict[str, dict[str, Any]] = {
    "none": {},
    "crop": {"crop_min": 0.3, "horizontal_flip": 0.5},
    "affine": {"rotate_degrees": 30, "shear_degrees": 15, "shift": 0.1, "zoom": 0.3, "affine": 0.7},
    "turns": {"quarter_turns": 0.6, "vertical_flip": 0.5},
    "colour": COLOUR,
    "all": {"rotate_degrees": 180, "crop_min": 0.4, "quarter_turns": 0.3, **COLOUR},
}
N = 8


def _drawn(name: str, resize: Any, size: int) -> Draws:
    aspects = np.random.default_rng(1).uniform(0.5, 2.0, N).astype(np.float32)
    augment = AugmentConfig(name=name, **POLICIES[name])
    preprocess = PreprocessConfig(resize=resize)
    return draw_batch(augment, preprocess, aspects, size, np.random.default_rng(3))


def _device(source: np.ndarray, draws: Draws, size: int, **options: Any) -> torch.Tensor:
    return device_augment.render(
        torch.from_numpy(source), draws, size, MEAN, STD, fill=77, **options
    )


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize(("side", "size"), [(32, 32), (40, 32), (96, 32), (97, 24)])
def test_the_device_makes_what_the_processor_makes(
    name: str, resize: str, side: int, size: int
) -> None:
    source, draws = squares(N, side), _drawn(name, resize, size)
    ours = _device(source, draws, size).permute(0, 2, 3, 1).numpy()
    expected = cpu_augment.render(source, draws, size, MEAN, STD, 77)
    difference = np.abs(ours - expected) / LEVEL
    # A centre on the very edge of the square may count as inside on one of them only.
    assert (difference > 0.5).mean() < 0.001
    assert difference.mean() < 0.03


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_batches_are_the_same(kind: str) -> None:
    source, draws = squares(N, 40), _drawn("crop", "squash", 32)
    mix = draw_mix(AugmentConfig(name="m", **{kind: 1.0}), N, 32, np.random.default_rng(0))
    ours = _device(source, draws, 32, mix=mix).permute(0, 2, 3, 1).numpy()
    expected = cpu_augment.render(source, draws, 32, MEAN, STD, 77, mix=mix)
    np.testing.assert_allclose(ours, expected, atol=0.5 * LEVEL)


def test_the_result_is_channels_last_and_of_the_type_asked_for() -> None:
    source, draws = squares(N, 40), _drawn("all", "squash", 32)
    images = _device(source, draws, 32, dtype=torch.bfloat16)
    assert images.shape == (N, 3, 32, 32)
    assert images.dtype == torch.bfloat16
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert not images.requires_grad


def test_autocast_changes_nothing() -> None:
    source, draws = squares(N, 40), _drawn("all", "squash", 32)
    plain = _device(source, draws, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(_device(source, draws, 32), plain)


def test_images_are_sorted_by_how_they_are_sampled() -> None:
    matrix = np.array(
        [
            [[1, 0, 0], [0, 1, 0]],
            [[0, -1, 1], [1, 0, 0]],
            [[0.9, -0.1, 0.1], [0.1, 0.9, 0]],
            [[-1, 0, 1], [0, 1, 0]],
            [[3, 0.1, 0], [0.1, 3, 0]],
        ],
        np.float32,
    )
    found = device_augment.groups(matrix, 32, 32)
    assert [(one.rows.tolist(), one.turned, one.halvings) for one in found] == [
        ([0, 3], False, None),
        ([1], True, None),
        ([2], False, 0),
        ([4], False, 1),
    ]


def test_draws_must_be_as_many_as_squares() -> None:
    with pytest.raises(ValueError, match="3 draws for 8 squares"):
        _device(squares(N, 16), plain_draws(PreprocessConfig(), np.ones(3, np.float32)), 16)
