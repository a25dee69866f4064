"""Images on which a policy is tried."""

from __future__ import annotations

import cv2
import numpy as np

from trainables.images import Pixels


def photograph(side: int, seed: int = 0) -> Pixels:
    """Soft colours over the whole range, (side, side, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def page(side: int) -> Pixels:
    """Dark lines on white."""
    lines = np.full((side, side, 3), 255, np.uint8)
    lines[side // 8 :: side // 8, side // 8 : -side // 8] = 30
    return lines


def grey(side: int) -> Pixels:
    """Three equal channels."""
    light = cv2.cvtColor(photograph(side), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(light, cv2.COLOR_GRAY2RGB), np.uint8)
