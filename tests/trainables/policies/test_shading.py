from __future__ import annotations

import random

import numpy as np
import pytest

from trainables.policies.shading import (
    draw_light,
    draw_shadow,
    light_gradient,
    shaded,
    shadow,
)

WHITE = np.full((96, 96, 3), 200, np.uint8)


def test_every_channel_is_multiplied_and_rounded() -> None:
    image = np.array([[[10, 100, 200]]], np.uint8)
    assert shaded(image, np.array([[0.5]], np.float32)).tolist() == [[[5, 50, 100]]]
    assert shaded(image, np.array([[1.5]], np.float32)).tolist() == [[[15, 150, 255]]]


def test_a_shadow_lies_where_its_polygon_is() -> None:
    left_half = np.array([[-1.0, -1.0], [0.5, -1.0], [0.5, 2.0], [-1.0, 2.0]])
    changed = shadow(WHITE, left_half, depth=0.5, softness=0.02)[:, :, 0].astype(int)
    assert changed[48, 10] == pytest.approx(100, abs=2)
    assert changed[48, 85] == 200
    assert 100 < changed[48, 47] < 200


def test_no_depth_is_no_shadow() -> None:
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_array_equal(shadow(WHITE, corners, 0.0, 0.05), WHITE)


def test_drawn_shadows_are_seen_and_leave_something_in_the_light() -> None:
    chooser, generator = random.Random(0), np.random.default_rng(0)
    for _ in range(60):
        drawn = draw_shadow(chooser, generator, 96, depth=(0.4, 0.5))
        changed = shadow(WHITE, **drawn)  # type: ignore[arg-type]
        assert changed.min() < 150
        assert changed.max() > 180


@pytest.mark.parametrize(("degrees", "turns"), [(0.0, 0), (90.0, 3), (180.0, 2), (270.0, 1)])
def test_light_grows_evenly_in_its_direction(degrees: float, turns: int) -> None:
    changed = light_gradient(WHITE, degrees, dark=0.5, bright=1.0)[:, :, 0].astype(int)
    row = np.rot90(changed, -turns)[40]
    assert row[0] == pytest.approx(100, abs=1)
    assert row[-1] == pytest.approx(200, abs=1)
    assert (np.diff(row) >= 0).all()


def test_drawn_light_is_dimmest_within_the_range() -> None:
    chooser, generator = random.Random(0), np.random.default_rng(0)
    for _ in range(60):
        drawn = draw_light(chooser, generator, 96, dimmest=(0.5, 0.7))
        assert 0.5 <= drawn["dark"] <= 0.7  # type: ignore[operator]
        assert drawn["bright"] >= drawn["dark"]  # type: ignore[operator]
        assert light_gradient(WHITE, **drawn).min() >= 98  # type: ignore[arg-type]
