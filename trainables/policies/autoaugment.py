"""AutoAugment: one of 25 pairs of operations that a search on ImageNet found.

Source: Cubuk, Zoph, Mané, Vasudevan and Le 2019, arXiv:1805.09501, table 9.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np

from search_spaces.config import AugmentConfig
from trainables.policies.effect import chance, effect
from trainables.policies.operations import OPERATIONS, Chosen, apply_operations

# Operation, probability, magnitude from 0 to 9 (0 where it has none).
Part = tuple[str, float, int]
HIGHEST = 9
PAIRS: tuple[tuple[Part, Part], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)


def autoaugment_steps(config: AugmentConfig, side: int, fill: int) -> list[Any]:
    """One of the 25 pairs. At strength 0.5 it is the paper's; magnitudes go with the strength, and
    below 0.5 the probabilities too."""
    draw = partial(draw_autoaugment, strength=config.strength, fill=fill)
    return [effect(draw, apply_operations, p=1.0)]


def draw_autoaugment(
    chooser: random.Random,
    generator: np.random.Generator,
    side: int,
    *,
    strength: float,
    fill: int,
) -> dict[str, Any]:
    """What `apply_operations` takes."""
    chosen = (_draw_part(chooser, part, strength) for part in chooser.choice(PAIRS))
    return {"chosen": tuple(one for one in chosen if one), "fill": fill}


def _draw_part(chooser: random.Random, part: Part, strength: float) -> Chosen | None:
    name, p, level = part
    taken, negative = chooser.random() < chance(p, strength), chooser.random() < 0.5
    magnitude = min(1.0, 2.0 * strength * level / HIGHEST)
    return (name, OPERATIONS[name].value(magnitude, negative=negative)) if taken else None
