"""A cheap elastic distortion: a coarse random field of shifts, smoothly enlarged.

The full one (Simard et al. 2003) blurs a field of the image's own size and takes ten times as long.
"""

from __future__ import annotations

import random
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from trainables.images import Pixels

Floats = npt.NDArray[np.float32]
KNOTS = 6


def draw_elastic(
    chooser: random.Random,
    generator: np.random.Generator,
    side: int,
    *,
    deviation: float,
    fill: int,
) -> dict[str, object]:
    """What `warp_smoothly` takes. `deviation`: of the knots' shifts, as a share of the side."""
    shifts = generator.standard_normal((KNOTS, KNOTS, 2), dtype=np.float32)
    return {"shifts": np.float32(deviation) * shifts, "fill": fill}


def warp_smoothly(image: Pixels, shifts: Floats, fill: int) -> Pixels:
    """`image` (s, s, 3) with each pixel taken from beside it, by `shifts` (k, k, 2) (across, down;
    shares of the side) of knots over the whole image, bicubic between them."""
    side = image.shape[0]
    field = cv2.resize(shifts, (side, side), interpolation=cv2.INTER_CUBIC)
    source = cv2.scaleAdd(field, float(side), pixel_positions(side))
    return moved(image, source, fill)


def moved(image: Pixels, source: Floats, fill: int) -> Pixels:
    """Each pixel taken from `source` (s, s, 2), its column and row in pixels."""
    changed = cv2.remap(
        image,
        source,
        None,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(fill, fill, fill),
    )
    return np.asarray(changed, dtype=np.uint8)


@lru_cache(maxsize=4)
def pixel_positions(side: int) -> Floats:
    """(side, side, 2): each pixel's own column and row. Read-only."""
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    positions = np.ascontiguousarray(np.stack([columns, rows], axis=2))
    positions.setflags(write=False)
    return positions
