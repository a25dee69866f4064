from __future__ import annotations

import random

import numpy as np

from trainables.policies.paper import draw_paper, paper

WHITE = np.full((64, 64, 3), 255, np.uint8)
SMOOTH = np.zeros((7, 7), np.float32)
FIBRES = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
COLOUR = (250, 230, 180)


def test_white_takes_the_colour_of_the_paper_and_black_stays_black() -> None:
    image = WHITE.copy()
    image[:32] = 0
    changed = paper(image, COLOUR, 1.0, SMOOTH, FIBRES, 0.0)
    assert (changed[:32] == 0).all()
    assert np.abs(changed[32:].astype(int) - COLOUR).max() <= 1


def test_the_amount_is_how_much_of_the_colour() -> None:
    half = paper(WHITE, COLOUR, 0.5, SMOOTH, FIBRES, 0.0)
    assert np.abs(half[0, 0].astype(int) - (252, 242, 217)).max() <= 1
    np.testing.assert_array_equal(paper(WHITE, COLOUR, 0.0, SMOOTH, FIBRES, 0.0), WHITE)


def test_stains_and_fibres_are_seen() -> None:
    stained = SMOOTH.copy()
    stained[0, 0] = -0.2
    changed = paper(WHITE, COLOUR, 0.0, stained, FIBRES, 0.0)
    assert changed[2, 2, 0] < 215
    assert changed[60, 60, 0] == 255
    rough = paper(WHITE, COLOUR, 1.0, SMOOTH, FIBRES, 0.05)
    assert 2.0 < rough[:, :, 2].std() < 12.0


def test_drawn_paper_stays_light() -> None:
    chooser, generator = random.Random(0), np.random.default_rng(0)
    for _ in range(40):
        drawn = draw_paper(chooser, generator, 64, strength=1.0)
        assert paper(WHITE, **drawn).mean() > 170  # type: ignore[arg-type]
