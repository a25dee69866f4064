"""The compiled pass against plain numpy, written from the words of its docstring, and Pillow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from search_spaces.config import AugmentConfig, PreprocessConfig
from tests.trainables.pictures import squares
from trainables.cpu_augment import render, warp
from trainables.draws import Draws, View, draw_batch, grey_boxes, plain_draws

GREY = np.array([0.299, 0.587, 0.114])
FILL = 77
SQUASH = PreprocessConfig()
NOTHING = (0.0, 0.0, 0.0)
UNIT = (1 / 255, 1 / 255, 1 / 255)  # with NOTHING: grey levels come out as they are


def _draws(matrix: np.ndarray) -> Draws:
    n = len(matrix)
    return Draws(matrix.astype(np.float32), np.ones((n, 3), np.float32), np.zeros((n, 4), np.int32))


def _turned(degrees: float, zoom: float = 1.0) -> np.ndarray:
    angle = np.deg2rad(degrees)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    return np.concatenate([linear, 0.5 - linear.sum(1, keepdims=True) / 2], axis=1)


def _halved(square: np.ndarray) -> np.ndarray:
    half = len(square) // 2
    means = square[: 2 * half, : 2 * half].reshape(half, 2, half, 2, 3).mean((1, 3))
    return np.floor(means + 0.5)


def _slow_warp(square: np.ndarray, matrix: np.ndarray, size: int, fill: float) -> np.ndarray:
    """Bilinear, pixel by pixel, from a copy that is halved while the image shrinks by over 1.5."""
    side = len(square)
    shrink = np.sqrt(abs(np.linalg.det(matrix[:, :2]))) * side / size
    pixels, scale = square.astype(float), float(side)
    while shrink > 1.5 and len(pixels) >= 4:
        pixels, scale, shrink = _halved(pixels), scale / 2, shrink / 2
    last = len(pixels) - 1
    out = np.full((size, size, 3), float(fill))
    for i in range(size):
        for j in range(size):
            place = matrix @ [(j + 0.5) / size, (i + 0.5) / size, 1.0]
            if (place < 0).any() or (place > 1).any():
                continue
            x, y = np.clip(place * scale - 0.5, 0, last)
            x0, y0 = min(int(x), last - 1), min(int(y), last - 1)
            fx, fy = x - x0, y - y0
            upper = pixels[y0, x0] * (1 - fx) + pixels[y0, x0 + 1] * fx
            lower = pixels[y0 + 1, x0] * (1 - fx) + pixels[y0 + 1, x0 + 1] * fx
            out[i, j] = upper * (1 - fy) + lower * fy
    return out


def _levels(source: np.ndarray, draws: Draws, size: int) -> np.ndarray:
    return render(source, draws, size, NOTHING, UNIT, FILL)


@pytest.mark.parametrize(("side", "size"), [(32, 32), (40, 24), (65, 32), (96, 20), (16, 40)])
@pytest.mark.parametrize("degrees", [17.0, 133.0])
def test_a_rotation_is_the_slow_one(side: int, size: int, degrees: float) -> None:
    source, matrix = squares(1, side), _turned(degrees, 0.8)
    ours = _levels(source, _draws(matrix[None]), size)[0]
    expected = _slow_warp(source[0], matrix, size, FILL)
    # A pixel on the very edge may fall on either side of it.
    close = np.abs(ours - expected) < 0.3
    assert close.mean() > 0.997


def test_a_shear_with_a_shift_is_the_slow_one() -> None:
    source, matrix = squares(1, 48), np.array([[1.0, 0.3, -0.1], [0.0, 1.0, 0.2]])
    ours = _levels(source, _draws(matrix[None]), 32)[0]
    assert (np.abs(ours - _slow_warp(source[0], matrix, 32, FILL)) < 0.3).mean() > 0.997


@pytest.mark.parametrize(("side", "size"), [(32, 32), (40, 32), (24, 50)])
@pytest.mark.parametrize("turn", [0.01, 90.01, 180.01, 270.01])
def test_the_fast_path_is_the_general_one(side: int, size: int, turn: float) -> None:
    """Turned by nearly nothing: the general path, which must come near the fast one."""
    source = squares(1, side)
    general = _levels(source, _draws(_turned(turn, 1.2)[None]), size)
    fast = _levels(
        source,
        plain_draws(SQUASH, np.ones(1), View(quarter_turns=round(turn / 90), scale=1.2)),
        size,
    )
    assert np.abs(general - fast).max() < 1.5
    assert np.abs(general - fast).mean() < 0.1


@pytest.mark.parametrize(
    ("side", "size", "box"),
    [
        (32, 32, (3.2, 1.7, 20.1, 30.3)),
        (32, 64, (0.0, 0.0, 32.0, 32.0)),
        (64, 20, (0.0, 0.0, 64.0, 64.0)),
        (100, 24, (10.4, 3.3, 95.0, 88.8)),
        (50, 12, (1.0, 20.0, 49.0, 28.0)),  # shrinks along x, grows along y
    ],
)
def test_a_crop_is_pillows_bilinear_resize(
    side: int, size: int, box: tuple[float, float, float, float]
) -> None:
    source = squares(1, side)
    x0, y0, x1, y1 = (end / side for end in box)
    matrix = np.array([[[x1 - x0, 0.0, x0], [0.0, y1 - y0, y0]]])
    ours = _levels(source, _draws(matrix), size)[0]
    theirs = np.asarray(
        Image.fromarray(source[0]).resize((size, size), Image.Resampling.BILINEAR, box=box)
    )
    # Pillow rounds between the two directions.
    assert np.abs(ours - theirs).max() <= 1.6


def test_shrinking_does_not_alias() -> None:
    """Stripes one pixel wide, four times finer than the output, become grey."""
    stripes = np.zeros((1, 128, 128, 3), np.uint8)
    stripes[:, :, ::2] = 255
    for degrees in (0.0, 5.0, 45.0):
        grey = _levels(stripes, _draws(_turned(degrees)[None]), 32)[0, 8:24, 8:24]
        assert np.abs(grey - 127.5).max() < 12


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("down", [False, True])
def test_flips_and_turns_are_permutations_of_pixels(turns: int, across: bool, down: bool) -> None:
    source = squares(2, 31)
    view = View(horizontal_flip=across, vertical_flip=down, quarter_turns=turns)
    expected = source[:, ::-1] if down else source
    expected = expected[:, :, ::-1] if across else expected
    expected = np.rot90(expected, turns, (1, 2))
    assert np.array_equal(warp(source, plain_draws(SQUASH, np.ones(2), view), 31), expected)


def test_letterbox_is_filled_outside_of_the_original() -> None:
    source = squares(1, 32)
    wide = plain_draws(PreprocessConfig(resize="letterbox"), np.array([2.0], np.float32))
    made = warp(source, wide, 32, FILL)[0]
    assert (made[:8] == FILL).all()
    assert (made[24:] == FILL).all()
    assert (made[8:24] != FILL).any(axis=(1, 2)).all()


def test_what_lies_wholly_outside_is_fill() -> None:
    away = np.array([[[1.0, 0.0, 3.0], [0.0, 1.0, 0.0]], [[1.0, 0.1, 0.0], [0.0, 1.0, -4.0]]])
    assert (warp(squares(2, 16), _draws(away), 16, FILL) == FILL).all()


def _slow_colour(moved: np.ndarray, factors: np.ndarray, middle: float) -> np.ndarray:
    bright, contrast, colourful = factors.astype(float)
    image = moved * bright
    image = image * contrast + (1 - contrast) * middle * bright
    image = image * colourful + (1 - colourful) * (image @ GREY)[..., None]
    return image.clip(0, 255)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), side=st.sampled_from([16, 20, 140]))
def test_colour_is_one_affine_map_about_the_mean_grey(seed: int, side: int) -> None:
    augment = AugmentConfig(name="made", brightness=0.5, contrast=0.5, saturation=0.5, crop_min=0.5)
    source = squares(3, side)
    draws = draw_batch(augment, SQUASH, np.ones(3, np.float32), 16, np.random.default_rng(seed))
    made = _levels(source, draws, 16)
    moved = _levels(source, draws.moved_only(), 16)
    step, boxes = grey_boxes(draws.matrix, side)
    for i in range(3):
        y0, x0, y1, x1 = boxes[i]
        middle = (source[i, ::step, ::step][y0:y1, x0:x1] @ GREY).mean()
        np.testing.assert_allclose(
            made[i], _slow_colour(moved[i], draws.colour[i], middle), atol=0.01
        )


def test_one_factor_alone_is_enough() -> None:
    source = squares(3, 16)
    colour = np.ones((3, 3), np.float32)
    np.fill_diagonal(colour, 1.4)
    draws = replace(plain_draws(SQUASH, np.ones(3)), colour=colour)
    made = _levels(source, draws, 16)
    for i in range(3):
        middle = (source[i] @ GREY).mean()
        np.testing.assert_allclose(made[i], _slow_colour(source[i], colour[i], middle), atol=0.01)


def test_erased_pixels_are_the_mean_colour_and_no_others() -> None:
    source, mean, std = squares(1, 16), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    plain = plain_draws(SQUASH, np.ones(1))
    erased = replace(plain, erase=np.array([[2, 3, 9, 7]], np.int32))
    expected = render(source, plain, 16, mean, std)
    expected[:, 2:9, 3:7] = 0.0
    assert np.array_equal(render(source, erased, 16, mean, std), expected)


def test_a_value_is_normalised_per_channel() -> None:
    source, mean, std = squares(1, 16), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    expected = (source / 255.0 - mean) / std
    made = render(source, plain_draws(SQUASH, np.ones(1)), 16, mean, std)
    np.testing.assert_allclose(made, expected, atol=1e-5)
