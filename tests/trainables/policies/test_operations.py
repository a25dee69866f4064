from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from tests.trainables.policies.pictures import Pixels, photograph
from trainables.policies import operations as ops

Pillow = Callable[[Image.Image], Image.Image]
LIKE_PILLOW: dict[str, tuple[float, Pillow]] = {
    "autocontrast": (0, ImageOps.autocontrast),
    "invert": (0, ImageOps.invert),
    "posterize": (3, lambda image: ImageOps.posterize(image, 3)),
    "solarize": (100, lambda image: ImageOps.solarize(image, 100)),
    "color": (1.7, lambda image: ImageEnhance.Color(image).enhance(1.7)),
    "contrast": (1.7, lambda image: ImageEnhance.Contrast(image).enhance(1.7)),
    "brightness": (0.4, lambda image: ImageEnhance.Brightness(image).enhance(0.4)),
    "sharpness": (1.9, lambda image: ImageEnhance.Sharpness(image).enhance(1.9)),
}


def noisy(side: int = 40) -> Pixels:
    return np.random.default_rng(0).integers(20, 230, (side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", LIKE_PILLOW)
@pytest.mark.parametrize("image", [photograph(40), noisy()], ids=["soft", "noisy"])
def test_values_change_as_in_pillow(name: str, image: Pixels) -> None:
    value, pillow = LIKE_PILLOW[name]
    expected = np.asarray(pillow(Image.fromarray(image))).astype(int)
    changed = ops.OPERATIONS[name].change(image, value, 0).astype(int)
    if name == "sharpness":  # Pillow leaves the border as it is
        expected, changed = expected[1:-1, 1:-1], changed[1:-1, 1:-1]
    # Pillow rounds the grey or smooth image before it mixes, which the factor enlarges.
    assert np.abs(changed - expected).max() <= 2


def test_equalize_makes_the_histogram_flat() -> None:
    dark = (photograph(64) // 4).astype(np.uint8)
    changed = ops.equalize(dark, 0, 0)
    assert changed.max() == 255
    assert 100 < changed.mean() < 155
    for image in (dark, noisy(), noisy(8)):
        expected = np.asarray(ImageOps.equalize(Image.fromarray(image)))
        np.testing.assert_array_equal(ops.equalize(image, 0, 0), expected)


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "contrast", "color", "sharpness"])
def test_a_flat_image_stays_flat(name: str) -> None:
    flat = np.full((16, 16, 3), 90, np.uint8)
    changed = ops.OPERATIONS[name].change(flat, 1.5, 0)
    assert len(np.unique(changed)) == 1


def test_translations_move_by_a_share_of_the_side() -> None:
    image = photograph(40)
    across = ops.translate_x(image, 0.25, 7)
    np.testing.assert_array_equal(across[:, 10:], image[:, :-10])
    assert (across[:, :10] == 7).all()
    down = ops.translate_y(image, -0.25, 7)
    np.testing.assert_array_equal(down[:-10], image[10:])
    assert (down[-10:] == 7).all()


def test_a_quarter_turn_is_counter_clockwise() -> None:
    image = photograph(33)
    difference = ops.rotate(image, 90.0, 0).astype(int) - np.rot90(image)
    assert np.abs(difference).max() <= 1


def test_shears_leave_the_middle_and_move_the_ends_apart() -> None:
    line = np.zeros((41, 41, 3), np.uint8)
    line[:, 20] = 255
    sheared = ops.shear_x(line, 0.5, 0)
    assert sheared[20, 20, 0] == 255
    assert sheared[0, 10, 0] == 255
    assert sheared[40, 30, 0] == 255
    turned = ops.shear_y(np.ascontiguousarray(line.transpose(1, 0, 2)), 0.5, 0)
    np.testing.assert_array_equal(turned, sheared.transpose(1, 0, 2))


@pytest.mark.parametrize("name", [n for n, o in ops.OPERATIONS.items() if o.has_magnitude])
@pytest.mark.parametrize("wide", [False, True])
def test_magnitude_0_changes_nothing(name: str, wide: bool) -> None:
    operation, image = ops.OPERATIONS[name], noisy()
    for negative in (False, True):
        value = operation.value(0.0, wide=wide, negative=negative)
        np.testing.assert_array_equal(operation.change(image, value, 0), image)


@pytest.mark.parametrize(
    ("name", "standard", "wide"),
    [
        ("shear_x", 0.15, 0.495),
        ("rotate", 15.0, 67.5),
        ("posterize", 6.0, 5.0),
        ("solarize", 128.0, 128.0),
        ("brightness", 1.45, 1.495),
    ],
)
def test_half_the_magnitude_is_half_the_papers_range(
    name: str, standard: float, wide: float
) -> None:
    operation = ops.OPERATIONS[name]
    assert operation.value(0.5) == pytest.approx(standard)
    assert operation.value(0.5, wide=True) == pytest.approx(wide)


@given(st.floats(0.0, 1.0), st.sampled_from(sorted(ops.OPERATIONS)))
def test_a_negative_magnitude_mirrors_where_there_is_a_sign(magnitude: float, name: str) -> None:
    operation = ops.OPERATIONS[name]
    up, down = operation.value(magnitude), operation.value(magnitude, negative=True)
    if operation.signed:
        assert up + down == pytest.approx(2.0 * operation.start)
    else:
        assert up == down


def test_operations_follow_each_other() -> None:
    image = photograph(20)
    both = ops.apply_operations(image, [("invert", 0.0), ("translate_x", 0.5)], 3)
    np.testing.assert_array_equal(both, ops.translate_x(ops.invert(image, 0, 0), 0.5, 3))
    assert ops.apply_operations(image, [], 0) is image


def test_fourteen_operations_are_chosen_from() -> None:
    assert len(ops.FOURTEEN) == 14
    assert "invert" not in ops.FOURTEEN
