from __future__ import annotations

import random

import numpy as np

from search_spaces.config import AugmentConfig
from tests.trainables.policies.pictures import page
from trainables.policies.document import document_steps


def test_about_four_effects_meet_in_one_image() -> None:
    image = page(64)
    steps = document_steps(AugmentConfig(name="document", strength=0.5), 64, 255)
    generator, chooser = np.random.default_rng(0), random.Random(0)
    for step in steps:
        step.set_random_state(generator, chooser)
    counts = np.array(
        [[bool((step(image=image)["image"] != image).any()) for step in steps] for _ in range(150)]
    )
    assert len(steps) == 11
    assert (counts.any(axis=0)).all()
    assert 3.0 < counts.sum(axis=1).mean() < 5.0


def test_text_survives_the_strongest() -> None:
    """Lines are still told from the paper in nearly every image."""
    image = page(112)
    steps = document_steps(AugmentConfig(name="document", strength=1.0), 112, 255)
    generator, chooser = np.random.default_rng(0), random.Random(0)
    for step in steps:
        step.set_random_state(generator, chooser)
    contrasts = []
    for _ in range(60):
        changed = image
        for step in steps:
            changed = step(image=changed)["image"]
        contrasts.append(float(changed[:, 40:72].astype(float).mean(axis=(1, 2)).std()))
    assert np.mean(np.array(contrasts) > 12.0) > 0.9
