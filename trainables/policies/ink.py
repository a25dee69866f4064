"""Ink: print that bleeds into the paper, and strokes of a pen over it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from trainables.images import Pixels

Points = npt.NDArray[np.float64]
INKS = ((20, 20, 25), (25, 40, 120), (40, 60, 160), (150, 25, 30), (70, 70, 75))
# Parts of a pixel in which OpenCV takes the points of a line: 2 ** 4.
SUBPIXELS = 4


def draw_bleed(
    chooser: random.Random,
    generator: np.random.Generator,
    side: int,
    *,
    strength: float,
) -> dict[str, object]:
    """What `ink_bleed` takes: in some places more than in others."""
    coarse = generator.random((5, 5), dtype=np.float32)
    return {
        "width": max(2, round(side * chooser.uniform(0.006, 0.006 + 0.008 * strength))),
        "amount": np.float32(min(1.0, 0.3 + strength)) * coarse,
    }


def ink_bleed(image: Pixels, width: int, amount: npt.NDArray[np.float32]) -> Pixels:
    """Dark parts grown by a disc of `width` pixels and softened, mixed into `image` by `amount`
    (k, k), shares from 0 to 1 over the whole image, smooth between."""
    side = image.shape[0]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    grown = cv2.GaussianBlur(cv2.erode(image, disc), (0, 0), 0.3 * width)
    share = cv2.resize(amount, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.blendLinear(grown, image, share, 1.0 - share), dtype=np.uint8)


def draw_scribble(
    chooser: random.Random,
    generator: np.random.Generator,
    side: int,
    *,
    strength: float,
) -> dict[str, object]:
    """What `scribble` takes: one to four strokes of one pen, each a line struck through, a wave
    or a wandering of the hand."""
    makers = (_straight, _wave, _wandering)
    count = 1 + chooser.randrange(1 + round(3.0 * strength))
    return {
        "strokes": tuple(chooser.choice(makers)(chooser) for _ in range(count)),
        "colour": chooser.choice(INKS),
        "width": max(1, round(side * chooser.uniform(0.004, 0.004 + 0.012 * strength))),
        "opacity": chooser.uniform(0.5, 1.0),
    }


def scribble(
    image: Pixels,
    strokes: Sequence[Points],
    colour: tuple[int, int, int],
    width: int,
    opacity: float,
) -> Pixels:
    """Lines through the points of each stroke (n, 2) (across, down; shares of the side), `width`
    pixels wide, over `image` with `opacity`."""
    inked = image.copy()
    scale = image.shape[0] * 2**SUBPIXELS
    paths = [np.round(stroke * scale).astype(np.int32) for stroke in strokes]
    cv2.polylines(inked, paths, False, colour, width, cv2.LINE_AA, SUBPIXELS)
    return np.asarray(cv2.addWeighted(inked, opacity, image, 1.0 - opacity, 0.0), dtype=np.uint8)


def _straight(chooser: random.Random) -> Points:
    """A line of words struck through."""
    left, right = chooser.uniform(0.0, 0.4), chooser.uniform(0.5, 1.0)
    height = chooser.uniform(0.05, 0.95)
    return np.array([[left, height], [right, height + chooser.uniform(-0.05, 0.05)]])


def _wave(chooser: random.Random) -> Points:
    """Up and down along a line, as one crosses something out."""
    along = np.linspace(0.0, 1.0, 80)
    turns = chooser.uniform(4.0, 14.0)
    height, lean = chooser.uniform(0.02, 0.06), chooser.uniform(0.0, 0.03)
    left, top = chooser.uniform(0.0, 0.6), chooser.uniform(0.1, 0.9)
    phase = 2.0 * math.pi * turns * along
    across = left + chooser.uniform(0.15, 0.5) * along + lean * np.cos(phase)
    return np.stack([across, top + height * np.sin(phase)], axis=1)


def _wandering(chooser: random.Random) -> Points:
    """A hand that moves on and turns as it likes."""
    x, y = chooser.uniform(0.1, 0.9), chooser.uniform(0.1, 0.9)
    heading, turning = chooser.uniform(0.0, 2.0 * math.pi), 0.0
    points = []
    for _ in range(60):
        turning = 0.8 * turning + chooser.gauss(0.0, 0.2)
        heading += turning
        x, y = x + 0.012 * math.cos(heading), y + 0.012 * math.sin(heading)
        points.append((x, y))
    return np.array(points)
