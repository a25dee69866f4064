"""Light on paper: shadows, and light that falls off to one side."""

from __future__ import annotations

import math
import random

import cv2
import numpy as np
import numpy.typing as npt

from trainables.images import Pixels
from trainables.policies.elastic import pixel_positions

Floats = npt.NDArray[np.float32]
# Shadows are soft: their shape is drawn small and enlarged.
COARSE = 48


def shaded(image: Pixels, gain: Floats) -> Pixels:
    """`image` (s, s, 3) with every pixel's three values times `gain` (s, s)."""
    gains = cv2.merge([gain, gain, gain])
    return np.asarray(cv2.multiply(image, gains, dtype=cv2.CV_8U), dtype=np.uint8)


def draw_shadow(
    chooser: random.Random,
    generator: np.random.Generator,
    side: int,
    *,
    depth: tuple[float, float],
) -> dict[str, object]:
    """What `shadow` takes: a four-sided shape that comes in over an edge of the image."""
    angle = chooser.uniform(0.0, 2.0 * math.pi)
    reach, half_width = chooser.uniform(0.1, 0.6), chooser.uniform(0.15, 0.6)
    into = np.array([math.cos(angle), math.sin(angle)])
    along = np.array([-into[1], into[0]])
    tip = 0.5 - into * 0.5 + into * reach + along * chooser.uniform(-0.3, 0.3)
    slant = chooser.uniform(-0.3, 0.3)
    corners = [
        tip + along * half_width + into * slant,
        tip - along * half_width - into * slant,
        tip - along * half_width * 1.3 - into * 2.0,
        tip + along * half_width * 1.3 - into * 2.0,
    ]
    return {
        "corners": np.array(corners),
        "depth": chooser.uniform(*depth),
        "softness": chooser.uniform(0.01, 0.08),
    }


def shadow(
    image: Pixels, corners: npt.NDArray[np.float64], depth: float, softness: float
) -> Pixels:
    """`image` darkened by the share `depth` within the polygon `corners` (k, 2) (across, down;
    shares of the side), its border blurred with deviation `softness` (a share of the side)."""
    side = image.shape[0]
    mask = np.zeros((COARSE, COARSE), np.float32)
    points = np.round((corners * COARSE - 0.5) * 16.0).astype(np.int32)
    cv2.fillPoly(mask, [points], 1.0, lineType=cv2.LINE_8, shift=4)
    mask = cv2.GaussianBlur(mask, (0, 0), max(0.3, softness * COARSE))
    gain = 1.0 - np.float32(depth) * cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
    return shaded(image, np.asarray(gain, dtype=np.float32))


def draw_light(
    chooser: random.Random,
    generator: np.random.Generator,
    side: int,
    *,
    dimmest: tuple[float, float],
) -> dict[str, object]:
    """What `light_gradient` takes: a random direction, the dark end in this range."""
    dark = chooser.uniform(*dimmest)
    return {
        "degrees": chooser.uniform(0.0, 360.0),
        "dark": dark,
        "bright": chooser.uniform(max(dark, 0.9), 1.15),
    }


def light_gradient(image: Pixels, degrees: float, dark: float, bright: float) -> Pixels:
    """`image` times a factor that goes evenly from `dark` to `bright` in the direction `degrees`
    (0 to the right, 90 down), corner to corner."""
    side = image.shape[0]
    across, down = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = (side - 1) / 2.0
    farthest = max(middle * (abs(across) + abs(down)), 1e-6)
    distance = (pixel_positions(side) - np.float32(middle)) @ np.array([across, down], np.float32)
    half = (bright - dark) / 2.0
    gain = np.float32(dark + half) + np.float32(half / farthest) * distance
    return shaded(image, gain)
