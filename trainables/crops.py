"""Random rectangles: the crops of random resized cropping and what random erasing erases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ATTEMPTS = 10


def draw_crops(
    aspects: npt.NDArray[np.float32],
    least_area: float,
    ratio: float,
    generator: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """(n, 4) x0, y0, width, height as fractions of an image's sides.

    `aspects`: (n,) width / height of the images. The share of the area is uniform in [`least_area`,
    1], width / height in pixels log-uniform in [1 / `ratio`, `ratio`], the place uniform. What does
    not fit is drawn again, at most ten times, then the largest middle part of an allowed ratio is
    taken, as torchvision's RandomResizedCrop does (Szegedy et al. 2015, arXiv:1409.4842). Unlike
    there no side is rounded to whole pixels.
    """
    n, wide = len(aspects), aspects.astype(np.float64)
    areas = generator.uniform(least_area, 1.0, (n, ATTEMPTS))
    # Relative to the image's own ratio: 1 cuts width and height by the same share.
    ratios = np.exp(generator.uniform(-1.0, 1.0, (n, ATTEMPTS)) * np.log(ratio)) / wide[:, None]
    widths, heights = np.sqrt(areas * ratios), np.sqrt(areas / ratios)
    fits = (widths <= 1.0) & (heights <= 1.0)
    first = (np.arange(n), fits.argmax(1))
    found = fits[first]
    corner = generator.random((n, 2))
    boxes = np.empty((n, 4))
    boxes[:, 2] = np.where(found, widths[first], np.minimum(1.0, ratio / wide))
    boxes[:, 3] = np.where(found, heights[first], np.minimum(1.0, ratio * wide))
    boxes[:, :2] = np.where(found[:, None], corner, 0.5) * (1.0 - boxes[:, 2:])
    return boxes


def draw_rectangles(
    n: int,
    size: int,
    areas: tuple[float, float],
    ratio: float,
    generator: np.random.Generator,
) -> npt.NDArray[np.int32]:
    """(n, 4) y0, x0, y1, x1 within squares of `size` pixels, smaller than these each way.

    The share of the area is uniform in `areas`, height / width log-uniform in [1 / `ratio`,
    `ratio`], the place uniform. What does not fit in ten attempts is empty: zeros. As in
    torchvision's and timm's RandomErasing (Zhong et al. 2020, arXiv:1708.04896).
    """
    pixels = generator.uniform(*areas, (n, ATTEMPTS)) * size**2
    ratios = np.exp(generator.uniform(-1.0, 1.0, (n, ATTEMPTS)) * np.log(ratio))
    # rint: halves to even, as Python's round in both libraries.
    sides = np.rint(np.sqrt(np.stack([pixels * ratios, pixels / ratios], axis=2))).astype(np.int32)
    fits = (sides < size).all(2)
    first = (np.arange(n), fits.argmax(1))
    chosen = np.minimum(sides[first], size)
    corner = generator.integers(0, size - chosen + 1)
    boxes = np.concatenate([corner, corner + chosen], axis=1).astype(np.int32)
    return boxes * fits[first][:, None].astype(np.int32)
