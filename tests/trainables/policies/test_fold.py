from __future__ import annotations

import random

import numpy as np
import pytest

from tests.trainables.policies.pictures import page, photograph
from trainables.policies.fold import draw_fold, fold

WHITE = np.full((81, 81, 3), 200, np.uint8)
FLAT: dict[str, float] = {"reach": 0.1, "shift": 0.0, "fill": 0}


def test_one_side_is_dark_the_other_light_and_both_fade() -> None:
    folded = fold(WHITE, 0.0, (0.5, 0.5), dark=0.4, light=0.2, **FLAT)  # type: ignore[arg-type]
    row = folded[40, :, 0].astype(int)
    assert row[41] == pytest.approx(200 * (1 - 0.4), abs=12)
    assert row[39] == pytest.approx(200 * (1 + 0.2), abs=8)
    assert (np.diff(row[42:]) >= 0).all()
    assert (np.diff(row[:40]) >= 0).all()
    assert abs(row[0] - 200) <= 2
    assert abs(row[80] - 200) <= 4
    assert (folded == folded[40]).all()


def test_the_crease_follows_place_and_direction() -> None:
    folded = fold(WHITE, 90.0, (0.5, 0.25), dark=0.5, light=0.0, **FLAT)  # type: ignore[arg-type]
    column = folded[:, 0, 0].astype(int)
    assert 19 <= int(column.argmin()) <= 21
    assert (folded == folded[:, :1]).all()


def test_what_is_near_the_crease_moves_and_what_is_far_does_not() -> None:
    image = photograph(200)
    values = {"reach": 0.02, "dark": 0.0, "light": 0.0, "fill": 0}
    moved = fold(image, 0.0, (0.5, 0.5), shift=0.03, **values)  # type: ignore[arg-type]
    assert (moved[:, 96:104] != image[:, 96:104]).any()
    np.testing.assert_array_equal(moved[:, :40], image[:, :40])
    still = fold(image, 0.0, (0.5, 0.5), shift=0.0, **values)  # type: ignore[arg-type]
    np.testing.assert_array_equal(still, image)


def test_drawn_folds_lie_inside_and_are_nearly_upright_or_level() -> None:
    chooser, generator = random.Random(0), np.random.default_rng(0)
    for _ in range(100):
        drawn = draw_fold(chooser, generator, 64, strength=1.0, fill=0)
        degrees = float(drawn["degrees"])  # type: ignore[arg-type]
        assert min(degrees % 90.0, 90.0 - degrees % 90.0) < 20.0
        assert fold(page(64), **drawn).shape == (64, 64, 3)  # type: ignore[arg-type]
