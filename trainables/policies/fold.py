"""A fold: a crease across the paper, one side in the light, the other in the dark."""

from __future__ import annotations

import math
import random

import numpy as np

from trainables.images import Pixels
from trainables.policies.elastic import moved, pixel_positions
from trainables.policies.shading import shaded


def draw_fold(
    chooser: random.Random,
    generator: np.random.Generator,
    side: int,
    *,
    strength: float,
    fill: int,
) -> dict[str, object]:
    """What `fold` takes: upright or level within a few degrees, away from the edges, because paper
    is folded so; at strength 1 up to half the light is lost and text moves by 2 % of the side."""
    level = chooser.random() < 0.5
    sign = 1.0 if chooser.random() < 0.5 else -1.0
    return {
        "degrees": (90.0 if level else 0.0) + chooser.gauss(0.0, 4.0) + (180.0 if sign < 0 else 0),
        "place": (chooser.uniform(0.2, 0.8), chooser.uniform(0.2, 0.8)),
        "dark": strength * chooser.uniform(0.15, 0.5),
        "light": strength * chooser.uniform(0.05, 0.3),
        "reach": chooser.uniform(0.02, 0.12),
        "shift": strength * chooser.uniform(0.0, 0.02),
        "fill": fill,
    }


def fold(
    image: Pixels,
    degrees: float,
    place: tuple[float, float],
    dark: float,
    light: float,
    reach: float,
    shift: float,
    fill: int,
) -> Pixels:
    """A crease through `place` (across, down; shares of the side), its normal at `degrees`.

    On the normal's side the image loses the share `dark` at the crease, on the other it gains
    `light`; both fade over `reach`, and so does the pull of what is near the crease towards it,
    `shift` (lengths are shares of the side)."""
    side = image.shape[0]
    normal = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    normal = normal.astype(np.float32)
    positions = pixel_positions(side)
    crease = (np.array(place, np.float32) * side - 0.5) @ normal
    distance = positions @ normal - crease
    fade = np.exp(np.abs(distance) * np.float32(-1.0 / max(reach * side, 1e-6)))
    if shift * side > 0.05:  # less is not seen
        pull = np.sign(distance) * fade * np.float32(shift * side)
        image = moved(image, positions + pull[:, :, None] * normal, fill)
    gain = 1.0 + fade * np.where(distance > 0.0, np.float32(-dark), np.float32(light))
    return shaded(image, gain.astype(np.float32))
