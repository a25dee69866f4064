from __future__ import annotations

import random

import numpy as np
import pytest

from tests.trainables.policies.pictures import page
from trainables.policies.ink import draw_bleed, draw_scribble, ink_bleed, scribble

WHITE = np.full((100, 100, 3), 255, np.uint8)


def test_ink_only_grows() -> None:
    image = page(96)
    everywhere = np.ones((5, 5), np.float32)
    bled = ink_bleed(image, 3, everywhere)
    assert bled[12, 48, 0] < 100
    assert (bled[13, 20:70, 0] < 180).all()
    assert (bled[6, :, 0] == 255).all()
    assert bled.mean() < image.mean()


def test_where_the_amount_is_0_nothing_bleeds() -> None:
    image = page(96)
    np.testing.assert_array_equal(ink_bleed(image, 3, np.zeros((5, 5), np.float32)), image)
    right = np.zeros((2, 2), np.float32)
    right[:, 1] = 1.0
    bled = ink_bleed(image, 3, right)
    np.testing.assert_array_equal(bled[:, :20], image[:, :20])
    assert (bled[:, 70:] != image[:, 70:]).any()


def test_a_stroke_goes_through_its_points() -> None:
    stroke = np.array([[0.2, 0.5], [0.8, 0.5]])
    drawn = scribble(WHITE, [stroke], (10, 20, 30), width=3, opacity=1.0)
    assert drawn[50, 50].tolist() == [10, 20, 30]
    assert (drawn[:45] == 255).all()
    assert (drawn[55:] == 255).all()
    assert (drawn[50, 90] == 255).all()
    assert (WHITE == 255).all()


@pytest.mark.parametrize(("opacity", "expected"), [(0.0, 255), (0.5, 155), (1.0, 55)])
def test_opacity_mixes_ink_and_paper(opacity: float, expected: int) -> None:
    stroke = np.array([[0.0, 0.5], [1.0, 0.5]])
    drawn = scribble(WHITE, [stroke], (55, 55, 55), 5, opacity)
    assert abs(int(drawn[50, 50, 0]) - expected) <= 1


def test_drawn_strokes_are_seen_and_leave_most_of_the_page() -> None:
    chooser, generator = random.Random(0), np.random.default_rng(0)
    seen = []
    for _ in range(60):
        drawn = draw_scribble(chooser, generator, 100, strength=1.0)
        seen.append((scribble(WHITE, **drawn) != 255).any(axis=2).mean())  # type: ignore[arg-type]
    assert np.mean(np.array(seen) > 0) > 0.9
    assert max(seen) < 0.3


def test_drawn_bleeding_gets_wider_with_the_side() -> None:
    def widest(side: int) -> int:
        chooser, generator = random.Random(0), np.random.default_rng(0)
        drawn = [draw_bleed(chooser, generator, side, strength=1.0) for _ in range(40)]
        return max(int(one["width"]) for one in drawn)  # type: ignore[call-overload]

    assert widest(32) == 2
    assert 2 < widest(224) < widest(512)
