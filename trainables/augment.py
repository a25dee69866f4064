"""Albumentations transforms: uint8 RGB (H, W, 3) in, uint8 RGB (size, size, 3) out.

Normalising is left to the device (`loader.to_input`), where it costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from search_spaces.config import AugmentConfig

Image = np.ndarray
Transform = Callable[[Image], Image]


class TrainTransform:
    """Random changes of one training image. `reseed` makes what follows reproducible."""

    def __init__(self, config: AugmentConfig, image_size: int) -> None:
        self._compose = _albumentations().Compose(_steps(config, image_size))

    def reseed(self, seed: int) -> None:
        self._compose.set_random_seed(seed)

    def __call__(self, image: Image) -> Image:
        return self._compose(image=image)["image"]


def evaluation_transform(image_size: int) -> Transform:
    """What validation, test and prediction see: resized, nothing random."""
    resize = _resize(image_size)

    def apply(image: Image) -> Image:
        if image.shape[:2] == (image_size, image_size):
            return image
        return resize(image=image)["image"]

    return apply


def _steps(config: AugmentConfig, image_size: int) -> list[Any]:
    library = _albumentations()
    steps = [_resize(image_size)]
    if config.horizontal_flip:
        steps.append(library.HorizontalFlip(p=config.horizontal_flip))
    if config.vertical_flip:
        steps.append(library.VerticalFlip(p=config.vertical_flip))
    if config.affine and (config.rotate_degrees or config.shift or config.zoom):
        steps.append(
            library.Affine(
                rotate=(-config.rotate_degrees, config.rotate_degrees),
                translate_percent=(-config.shift, config.shift),
                scale=(1.0 - config.zoom, 1.0 + config.zoom),
                p=config.affine,
            )
        )
    if config.brightness or config.contrast:
        steps.append(
            library.RandomBrightnessContrast(
                brightness_limit=config.brightness, contrast_limit=config.contrast, p=1.0
            )
        )
    if config.erase:
        steps.append(
            library.CoarseDropout(
                num_holes_range=(1, 1),
                hole_height_range=(0.1, 0.35),
                hole_width_range=(0.1, 0.35),
                p=config.erase,
            )
        )
    return steps


def _resize(image_size: int) -> Any:
    import cv2

    return _albumentations().Resize(
        image_size, image_size, interpolation=cv2.INTER_LINEAR, area_for_downscale="image"
    )


def _albumentations() -> Any:
    """The module, imported when first needed."""
    # Its import asks a server for the newest version unless told not to.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    # One image is too small to share among threads; fold runs side by side use the cores.
    cv2.setNumThreads(0)
    return albumentations
