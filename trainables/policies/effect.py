"""A transform of albumentations out of two plain functions: one draws, the other changes pixels."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from trainables.images import Pixels
from trainables.policies.library import albumentations

Draw = Callable[[random.Random, np.random.Generator, int], Mapping[str, Any]]
Change = Callable[..., Pixels]


def effect(draw: Draw, change: Change, p: float) -> Any:
    """With probability `p`: `change(image, **draw(py_random, random_generator, side))`.

    `draw` has all the randomness, from the transform's own generators; `change` is pure: uint8 RGB
    (side, side, 3) in and out, `image` never written to."""
    transform = _effect_type()(p=p)
    transform.draw, transform.change = draw, change
    return transform


def chance(p: float, strength: float) -> float:
    """The probability of a step that has probability `p` from strength 0.5 on; none at 0."""
    return p * min(1.0, 2.0 * strength)


@cache
def _effect_type() -> Any:
    base: Any = albumentations().ImageOnlyTransform

    class Effect(base):
        draw: Draw
        change: Change

        def get_params_dependent_on_data(
            self, params: dict[str, Any], data: dict[str, Any]
        ) -> dict[str, Any]:
            side = data["image"].shape[0]
            return {"drawn": self.draw(self.py_random, self.random_generator, side)}

        def apply(self, img: Pixels, drawn: Mapping[str, Any], **params: Any) -> Pixels:
            return self.change(img, **drawn)

    return Effect
