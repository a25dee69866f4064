from __future__ import annotations

import random

import numpy as np

from tests.trainables.policies.pictures import page, photograph
from trainables.policies.elastic import draw_elastic, moved, pixel_positions, warp_smoothly


def test_no_shift_changes_nothing() -> None:
    image = photograph(50)
    still = np.zeros((6, 6, 2), np.float32)
    np.testing.assert_array_equal(warp_smoothly(image, still, 0), image)


def test_equal_shifts_move_the_whole_image_and_fill_what_comes_in() -> None:
    image = photograph(40)
    shifts = np.zeros((6, 6, 2), np.float32)
    shifts[:, :, 0] = 0.25
    changed = warp_smoothly(image, shifts, 77)
    np.testing.assert_array_equal(changed[:, :30], image[:, 10:])
    assert (changed[:, 30:] == 77).all()


def test_positions_are_columns_then_rows_and_cannot_be_written() -> None:
    positions = pixel_positions(5)
    assert positions[3, 1].tolist() == [1.0, 3.0]
    assert not positions.flags.writeable
    image = photograph(5)
    np.testing.assert_array_equal(moved(image, positions, 0), image)


def test_neighbours_stay_neighbours() -> None:
    """A line becomes wavy, not torn: in every column there is still something dark."""
    image = page(96)
    drawn = draw_elastic(random.Random(0), np.random.default_rng(0), 96, deviation=0.02, fill=255)
    changed = warp_smoothly(image, **drawn)  # type: ignore[arg-type]
    assert (changed != image).any()
    assert (changed[:, 20:76, 0].min(axis=0) < 150).all()
