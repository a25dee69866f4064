"""Augmented images as bytes: for validation replay, TTA by the training policy, and previews."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search_spaces.config import AugmentConfig, PreprocessConfig
from trainables.cpu_augment import finish_bytes, warp
from trainables.draws import draw_each
from trainables.images import Pixels
from trainables.policies.build import build_policy
from trainables.recipe import DEFAULT_MEAN, Channels
from trainables.seeds import derive_seed


def augment_images(
    images: Pixels,
    aspects: npt.NDArray[np.float32],
    augment: AugmentConfig,
    preprocess: PreprocessConfig,
    size: int,
    seeds: Sequence[int],
    mean: Channels = DEFAULT_MEAN,
) -> Pixels:
    """Geometry, policy, colour and erasing of a training image; not mixed, not normalised.

    `images`: (n, S, S, 3) uint8 stored squares; `aspects`: (n,) width / height of the originals;
    `size`: side of the output in pixels; `seeds`: n whole numbers from 0 on. An image's result
    depends on its own seed, not on its neighbours. `mean`: the colour in [0, 1] of what is
    erased, by default ImageNet's, where no model says otherwise.
    Returns (n, size, size, 3) uint8."""
    draws = draw_each(augment, preprocess, aspects, size, seeds)
    moved = warp(images, draws, size, preprocess.fill)
    policy = build_policy(augment, preprocess.fill)
    if policy is not None:
        for image, seed in zip(moved, seeds, strict=True):
            policy.reseed(derive_seed("policy", seed))
            image[:] = policy(image)
    return finish_bytes(moved, draws, mean)
