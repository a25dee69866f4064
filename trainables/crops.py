"""Random rectangles: the crops of random resized cropping and what random erasing erases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ensemble.kernels import compiled

ATTEMPTS = 10


def side_for_crops(image_size: int) -> int:
    """Side in pixels at which images are cached where training crops: a quarter more than the
    model's, so that a crop still has the pixels it shows. A multiple of 8."""
    return -(-image_size * 5 // 4 // 8) * 8


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
    wide = aspects.astype(np.float64)
    uniform = generator.random((len(wide), ATTEMPTS, 2))
    sides, found = _first_that_fits(uniform, wide, least_area, 1.0, float(np.log(ratio)), 0)
    corner = generator.random((len(wide), 2))
    boxes = np.empty((len(wide), 4))
    boxes[:, 2] = np.where(found, sides[:, 0], np.minimum(1.0, ratio / wide))
    boxes[:, 3] = np.where(found, sides[:, 1], np.minimum(1.0, ratio * wide))
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

    The share of the area is uniform in `areas`, width / height log-uniform in [1 / `ratio`,
    `ratio`], the place uniform. What does not fit in ten attempts is empty: zeros. As in
    torchvision's and timm's RandomErasing (Zhong et al. 2020, arXiv:1708.04896).
    """
    uniform = generator.random((n, ATTEMPTS, 2))
    sides, found = _first_that_fits(uniform, np.ones(n), *areas, float(np.log(ratio)), size)
    sides *= found[:, None]
    corner = np.floor(generator.random((n, 2)) * (size - sides + 1.0)) * found[:, None]
    return np.concatenate([corner, corner + sides], axis=1)[:, [1, 0, 3, 2]].astype(np.int32)


@compiled()
def _first_that_fits(
    uniform: np.ndarray,
    wide: np.ndarray,
    least: float,
    most: float,
    log_ratio: float,
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The first attempt of each image that is within it: (n, 2) width, height, and (n,) whether
    there is one. `uniform`: (n, attempts, 2) in [0, 1). `size`: 0 for fractions of the sides, else
    whole pixels, smaller than `size`."""
    sides, found = np.zeros((len(wide), 2)), np.zeros(len(wide), np.bool_)
    for i in range(len(wide)):
        for attempt in range(uniform.shape[1]):
            area = least + (most - least) * uniform[i, attempt, 0]
            # Relative to the image's own ratio: 1 cuts width and height by the same share.
            ratio = np.exp((2.0 * uniform[i, attempt, 1] - 1.0) * log_ratio) / wide[i]
            width, height = np.sqrt(area * ratio), np.sqrt(area / ratio)
            if size > 0:
                # Halves to even, as Python's round in both libraries.
                width, height = np.rint(width * size), np.rint(height * size)
                fits = width < size and height < size
            else:
                fits = width <= 1.0 and height <= 1.0
            if fits:
                sides[i, 0], sides[i, 1], found[i] = width, height, True
                break
    return sides, found
