"""RandAugment: a few operations at random, all of one magnitude.

Source: Cubuk, Zoph, Shlens and Le 2020, arXiv:1909.13719.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np

from search_spaces.config import AugmentConfig
from trainables.policies.effect import chance, effect
from trainables.policies.operations import FOURTEEN, OPERATIONS, Chosen, apply_operations


def randaugment_steps(config: AugmentConfig, side: int, fill: int) -> list[Any]:
    """`config.operations` operations at magnitude `config.strength` (the paper's M / 10).

    Two of the fourteen (autocontrast, equalize) have no magnitude: below strength 0.5 they are left
    out in proportion, so that strength 0 changes nothing."""
    draw = partial(
        draw_randaugment, operations=config.operations, strength=config.strength, fill=fill
    )
    return [effect(draw, apply_operations, p=1.0)]


def draw_randaugment(
    chooser: random.Random,
    generator: np.random.Generator,
    side: int,
    *,
    operations: int,
    strength: float,
    fill: int,
) -> dict[str, Any]:
    """What `apply_operations` takes: operations drawn with replacement, signs at random."""
    names = [chooser.choice(FOURTEEN) for _ in range(operations)]
    chosen = (draw_operation(chooser, name, strength, strength) for name in names)
    return {"chosen": tuple(one for one in chosen if one), "fill": fill}


def draw_operation(
    chooser: random.Random, name: str, magnitude: float, strength: float, *, wide: bool = False
) -> Chosen | None:
    """`name` at `magnitude` with a random sign; None where an operation without a magnitude is
    left out because of `strength`."""
    operation = OPERATIONS[name]
    negative = chooser.random() < 0.5
    if not operation.has_magnitude and chooser.random() >= chance(1.0, strength):
        return None
    return name, operation.value(magnitude, wide=wide, negative=negative)
