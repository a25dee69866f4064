"""document: paper that was folded, written on, and photographed or scanned badly.

The effects are those of Augraphy (Groleau et al. 2023, arXiv:2208.14558) that matter most, written
anew. Turns and flips are done before it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from search_spaces.config import AugmentConfig
from trainables.policies.effect import chance, effect
from trainables.policies.fold import draw_fold, fold
from trainables.policies.ink import draw_bleed, draw_scribble, ink_bleed, scribble
from trainables.policies.library import albumentations
from trainables.policies.noise import draw_grain, grain
from trainables.policies.noise_blur import blur_step
from trainables.policies.paper import draw_paper, paper
from trainables.policies.shading import draw_light, draw_shadow, light_gradient, shadow


def document_steps(config: AugmentConfig, side: int, fill: int) -> list[Any]:
    """In the order in which it happens to a page: print, pen, paper, folds, light, camera, file.

    Each with its own probability, so that about four of the eleven meet in one image."""
    strength = config.strength
    p = partial(chance, strength=strength)
    return [
        effect(partial(draw_bleed, strength=strength), ink_bleed, p(0.35)),
        effect(partial(draw_scribble, strength=strength), scribble, p(0.25)),
        effect(partial(draw_paper, strength=strength), paper, p(0.5)),
        *(_fold(strength, fill, p(share)) for share in (0.4, 0.2)),
        _perspective(strength, fill, p(0.4)),
        effect(partial(draw_shadow, depth=(0.1, 0.2 + 0.5 * strength)), shadow, p(0.35)),
        effect(
            partial(draw_light, dimmest=(1.0 - 0.7 * strength, 1.0 - 0.3 * strength)),
            light_gradient,
            p(0.35),
        ),
        blur_step(0.6 * strength, side, p(0.3)),
        effect(
            partial(draw_grain, deviation=(2.0 * strength, 30.0 * strength), coloured=0.3),
            grain,
            p(0.5),
        ),
        _jpeg(strength, p(0.35)),
    ]


def _fold(strength: float, fill: int, p: float) -> Any:
    return effect(partial(draw_fold, strength=strength, fill=fill), fold, p)


def _perspective(strength: float, fill: int, p: float) -> Any:
    """The corners moved by up to a tenth of the side or so at strength 1."""
    scale = (0.02 * strength, 0.1 * strength)
    return albumentations().Perspective(scale=scale, fit_output=True, fill=(fill,) * 3, p=p)


def _jpeg(strength: float, p: float) -> Any:
    """Saved at a quality of 95 down to 25 at strength 1."""
    return albumentations().ImageCompression(quality_range=(round(95 - 70 * strength), 95), p=p)
