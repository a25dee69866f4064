from __future__ import annotations

import random

import numpy as np

from search_spaces.config import AugmentConfig
from tests.trainables.policies.pictures import page
from trainables.policies.noise_blur import blur_step, noise_blur_steps


def spread(side: int, strength: float) -> float:
    """How far a single bright pixel is spread, as a share of the side, over 60 blurs."""
    point = np.zeros((side, side, 3), np.uint8)
    point[side // 2, side // 2] = 255
    step = blur_step(strength, side, p=1.0)
    step.set_random_state(np.random.default_rng(0), random.Random(0))
    seen = [(step(image=point)["image"][:, :, 0] > 0).any(axis=0).sum() for _ in range(60)]
    return max(seen) / side


def test_a_blur_reaches_as_far_in_a_small_image_as_in_a_large_one() -> None:
    assert 0.02 < spread(224, 1.0) < 0.12
    assert spread(448, 1.0) < 0.12
    assert spread(32, 1.0) < 0.2
    assert spread(224, 0.2) < spread(224, 1.0)


def test_lines_survive() -> None:
    for step in noise_blur_steps(AugmentConfig(name="x", strength=1.0), 64, 0):
        step.set_random_state(np.random.default_rng(0), random.Random(0))
        for _ in range(20):
            changed = step(image=page(64))["image"].mean(axis=2)
            assert changed[8:-8, 20:40].mean(axis=1).std() > 15
