from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from search_spaces.config import AugmentConfig
from tests.trainables.policies.pictures import page
from trainables.policies.morphology import morphology_steps


def steps(strength: float, side: int, fill: int = 255) -> list[Any]:
    made = morphology_steps(AugmentConfig(name="x", strength=strength), side, fill)
    for step in made:
        step.set_random_state(np.random.default_rng(0), random.Random(0))
    return made


def test_lines_become_thicker_or_thinner() -> None:
    thickness, _, _ = steps(1.0, 224)
    lines = np.full((224, 224, 3), 255, np.uint8)
    lines[40:200:40] = lines[41:200:40] = lines[42:200:40] = 0
    dark = [float((thickness(image=lines)["image"] == 0).mean()) for _ in range(60)]
    plain = float((lines == 0).mean())
    assert min(dark) < plain < max(dark)
    assert min(dark) > 0


def test_distortion_fills_with_the_colour_of_the_ground() -> None:
    _, distortion, _ = steps(1.0, 96)
    for _ in range(30):
        changed = distortion(image=page(96))["image"]
        assert (changed[0] == 255).all()
        assert (changed[-1] == 255).all()


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_holes_are_a_part_of_the_image(strength: float) -> None:
    holes = steps(strength, 100, fill=9)[2]
    white = np.full((100, 100, 3), 255, np.uint8)
    shares = []
    for _ in range(60):
        changed = holes(image=white)["image"]
        gone = (changed == 9).all(axis=2)
        assert ((changed == 255).all(axis=2) | gone).all()
        shares.append(gone.mean())
    assert min(shares) == 0.0
    assert 0.01 < max(shares) < 0.4
