from __future__ import annotations

import random

import numpy as np
import pytest

from trainables.policies.effect import chance, effect


def _draw(chooser: random.Random, generator: np.random.Generator, side: int) -> dict[str, int]:
    return {"added": chooser.randrange(1, 9), "side": side}


def _add(image: np.ndarray, added: int, side: int) -> np.ndarray:
    assert image.shape[0] == side
    return image + np.uint8(added)


def test_an_effect_is_a_transform_of_albumentations() -> None:
    transform = effect(_draw, _add, p=1.0)
    image = np.zeros((6, 6, 3), np.uint8)
    transform.set_random_seed(3)
    first = transform(image=image)["image"]
    assert first.min() == first.max() >= 1
    transform.set_random_seed(3)
    np.testing.assert_array_equal(transform(image=image)["image"], first)


def test_two_effects_keep_their_own_functions() -> None:
    one, two = effect(_draw, _add, p=1.0), effect(_draw, lambda image, **_: image, p=1.0)
    image = np.zeros((4, 4, 3), np.uint8)
    assert one(image=image)["image"].any()
    assert not two(image=image)["image"].any()


def test_its_probability_is_kept() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    transform = effect(_draw, _add, p=0.3)
    transform.set_random_seed(0)
    taken = sum(bool(transform(image=image)["image"].any()) for _ in range(400))
    assert 80 < taken < 160


@pytest.mark.parametrize(("strength", "expected"), [(0.0, 0.0), (0.25, 0.3), (0.5, 0.6), (1, 0.6)])
def test_a_chance_grows_to_its_value_at_half_strength(strength: float, expected: float) -> None:
    assert chance(0.6, strength) == pytest.approx(expected)
