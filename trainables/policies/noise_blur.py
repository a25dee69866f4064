"""noise_blur: what cameras and scanners do to an image. The geometry is done before it."""

from __future__ import annotations

from functools import partial
from typing import Any

from search_spaces.config import AugmentConfig
from trainables.policies.effect import chance, effect
from trainables.policies.library import albumentations
from trainables.policies.noise import draw_grain, grain


def noise_blur_steps(config: AugmentConfig, side: int, fill: int) -> list[Any]:
    """A blur (out of focus or moved) for half of the images, grain for two thirds.

    At strength 1 and 224 px: a blur of up to 3 pixels' deviation or a path of up to 11 pixels,
    noise of up to 30 grey values."""
    strength = config.strength
    return [
        blur_step(strength, side, chance(0.5, strength)),
        effect(
            partial(draw_grain, deviation=(2.0 * strength, 30.0 * strength)),
            grain,
            chance(0.67, strength),
        ),
    ]


def blur_step(strength: float, side: int, p: float) -> Any:
    """Gaussian or motion blur, one as likely as the other; lengths follow the side."""
    library = albumentations()
    scale = side / 224.0
    deviation = max(0.35, 3.0 * strength * scale)
    path = max(3, 2 * round(5.0 * strength * scale) + 1)
    return library.OneOf(
        [
            library.GaussianBlur(blur_limit=0, sigma_limit=(0.3, deviation), p=1.0),
            library.MotionBlur(blur_limit=(3, path), allow_shifted=False, p=1.0),
        ],
        p=p,
    )
