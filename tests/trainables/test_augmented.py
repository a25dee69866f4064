from __future__ import annotations

import numpy as np

from search_spaces.config import AugmentConfig, PreprocessConfig
from tests.trainables.pictures import squares
from trainables.augmented import augment_images
from trainables.recipe import DEFAULT_MEAN

SQUASH = PreprocessConfig()
NOISY = AugmentConfig(
    name="made", rotate_degrees=20.0, brightness=0.2, erase=0.5, policy="noise_blur", policy_p=1.0
)


def _made(augment: AugmentConfig, rows: slice = slice(None), size: int = 32) -> np.ndarray:
    seeds = [11, 12, 13, 14][rows]
    source = squares(4, 40)[rows]
    return augment_images(source, np.ones(len(seeds), np.float32), augment, SQUASH, size, seeds)


def test_an_image_depends_on_its_own_seed_alone() -> None:
    all_of_them = _made(NOISY)
    assert all_of_them.shape == (4, 32, 32, 3)
    assert all_of_them.dtype == np.uint8
    assert np.array_equal(_made(NOISY, slice(2, 3)), all_of_them[2:3])
    assert np.array_equal(_made(NOISY), all_of_them)


def test_the_policy_is_applied() -> None:
    without = NOISY.model_copy(update={"policy": "none"})
    assert not np.array_equal(_made(without), _made(NOISY))


def test_nothing_random_leaves_images_as_they_are() -> None:
    assert np.array_equal(_made(AugmentConfig(name="none"), size=40), squares(4, 40))


def test_what_is_erased_becomes_the_mean_colour() -> None:
    made = _made(AugmentConfig(name="made", erase=1.0, erase_min=0.3, erase_max=0.4), size=40)
    changed = (made != squares(4, 40)).any(-1)
    assert 0.2 < changed.mean() < 0.5
    assert (made[changed] == np.round(np.array(DEFAULT_MEAN) * 255)).all()


def test_mixing_is_left_to_the_batch() -> None:
    mixing = AugmentConfig(name="made", mixup=1.0)
    assert np.array_equal(_made(mixing, size=40), squares(4, 40))
