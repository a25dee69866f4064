"""TrivialAugment: one operation at random, its magnitude at random.

Source: Müller and Hutter 2021, arXiv:2103.10158, its wide ranges.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np

from search_spaces.config import AugmentConfig
from trainables.policies.effect import effect
from trainables.policies.operations import FOURTEEN, apply_operations
from trainables.policies.randaugment import draw_operation


def trivialaugment_steps(config: AugmentConfig, side: int, fill: int) -> list[Any]:
    """One of fourteen operations, its magnitude uniform up to `config.strength`; the paper's is 1.

    Operations without a magnitude are left out as in `randaugment_steps`."""
    draw = partial(draw_trivialaugment, strength=config.strength, fill=fill)
    return [effect(draw, apply_operations, p=1.0)]


def draw_trivialaugment(
    chooser: random.Random,
    generator: np.random.Generator,
    side: int,
    *,
    strength: float,
    fill: int,
) -> dict[str, Any]:
    """What `apply_operations` takes."""
    name, magnitude = chooser.choice(FOURTEEN), strength * chooser.random()
    one = draw_operation(chooser, name, magnitude, strength, wide=True)
    return {"chosen": (one,) if one else (), "fill": fill}
