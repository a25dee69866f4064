"""morphology: for sketches and other lines on a ground. Lines grow thicker, thinner, wavier, and
parts of them go missing."""

from __future__ import annotations

from functools import partial
from typing import Any

from search_spaces.config import AugmentConfig
from trainables.policies.effect import chance, effect
from trainables.policies.elastic import draw_elastic, warp_smoothly
from trainables.policies.library import albumentations


def morphology_steps(config: AugmentConfig, side: int, fill: int) -> list[Any]:
    """Erosion or dilation for half of the images; a distortion, of a grid or elastic, for half;
    holes of the colour `fill` for half (DeVries and Taylor 2017, arXiv:1708.04552).

    At strength 1 and 224 px: kernels of up to 3 pixels (more would wipe out thin
    lines), 8 holes of up to a fifth of the side."""
    strength = config.strength
    return [
        _thickness(strength, side, chance(0.5, strength)),
        _distortion(strength, fill, chance(0.5, strength)),
        _holes(strength, fill, chance(0.5, strength)),
    ]


def _thickness(strength: float, side: int, p: float) -> Any:
    library = albumentations()
    widest = max(2, round(3.0 * strength * side / 224.0))
    return library.OneOf(
        [
            library.Morphological(scale=(2, widest), operation=operation, p=1.0)
            for operation in ("erosion", "dilation")
        ],
        p=p,
    )


def _distortion(strength: float, fill: int, p: float) -> Any:
    library = albumentations()
    limit = 0.4 * strength
    return library.OneOf(
        [
            library.GridDistortion(
                num_steps=5, distort_limit=(-limit, limit), fill=(fill,) * 3, p=1.0
            ),
            effect(
                partial(draw_elastic, deviation=0.025 * strength, fill=fill), warp_smoothly, p=1.0
            ),
        ],
        p=p,
    )


def _holes(strength: float, fill: int, p: float) -> Any:
    sides = (0.04, 0.04 + 0.16 * strength)
    return albumentations().CoarseDropout(
        num_holes_range=(1, 1 + round(7.0 * strength)),
        hole_height_range=sides,
        hole_width_range=sides,
        fill=(fill,) * 3,
        p=p,
    )
