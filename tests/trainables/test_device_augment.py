"""On torch's CPU device: the same draws give the same pixels as the compiled pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

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


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("at_once", [1, 3, 8, 100])
def test_a_few_at_a_time_give_the_same_images(name: str, at_once: int) -> None:
    source, draws = squares(N, 40), _drawn(name, "letterbox", 32)
    mix = draw_mix(AugmentConfig(name="m", cutmix=1.0), N, 32, np.random.default_rng(0))
    expected = _device(source, draws, 32, mix=mix)
    assert torch.equal(_device(source, draws, 32, mix=mix, at_once=at_once), expected)
    assert expected.is_contiguous(memory_format=torch.channels_last)


def test_no_more_than_so_many_are_in_the_making(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = device_augment._weights

    def weights(gain: np.ndarray, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(gain))
        return real(gain, *given)

    monkeypatch.setattr(device_augment, "_weights", weights)
    _device(squares(N, 40), _drawn("crop", "squash", 32), 32, at_once=3)
    assert seen == [3, 3, 3, 3, 2, 2]  # down and across


class TensorFloat(TorchDispatchMode):
    """Products of matrices as a GPU makes them with TF32: of ten bits of mantissa each."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        if func.overloadpacket.__name__ in ("mm", "bmm", "mv", "addmm", "baddbmm"):
            args = [self._rounded(one) for one in args]
        return func(*args, **(kwargs or {}))

    def _rounded(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        bits = value.contiguous().view(torch.int32)
        return ((bits + (1 << 12)) & -(1 << 13)).view(torch.float32)


def test_fast_products_do_not_move_an_image() -> None:
    """Where a turned image is sampled is reckoned in full: at 224 px TF32 would be off by a part
    of a pixel, which changes every edge."""
    source, draws = squares(N, 256), _drawn("affine", "squash", 224)
    exact = _device(source, draws.moved_only(), 224)
    with TensorFloat():
        fast = _device(source, draws.moved_only(), 224)
    turned = [row for group in device_augment.groups(draws.matrix, 256, 224)
              if group.halvings is not None for row in group.rows]  # fmt: skip
    assert len(turned) > N // 3
    assert torch.equal(fast[turned], exact[turned])


def test_fast_products_are_good_to_a_quarter_of_a_grey_level_elsewhere() -> None:
    source, draws = squares(N, 256), _drawn("crop", "squash", 224)
    exact = _device(source, draws, 224)
    with TensorFloat():
        fast = _device(source, draws, 224)
    assert not torch.equal(fast, exact)
    assert (fast - exact).abs().max() < 0.25 * LEVEL


def test_nothing_is_copied_to_the_device_but_what_was_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The constants of the first batch serve for all: a copy would wait for the step before."""
    source, draws = squares(N, 40), _drawn("colour", "squash", 32)
    expected = _device(source, draws, 32)

    def copied(*_: object, **__: object) -> torch.Tensor:
        raise AssertionError("a tensor was made of numbers")

    monkeypatch.setattr(torch, "tensor", copied)
    assert torch.equal(_device(source, draws, 32), expected)


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
