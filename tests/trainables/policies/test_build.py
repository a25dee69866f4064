"""What every policy promises."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from search_spaces.augmentation import PolicyName
from search_spaces.config import AugmentConfig
from tests.trainables.policies.pictures import Pixels, grey, page, photograph
from trainables.policies.build import STEPS, Policy, build_policy

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(STEPS)


def policy(name: str, **values: object) -> Policy:
    built = build_policy(AugmentConfig(name="tried", policy=name, **values))  # type: ignore[arg-type]
    assert built is not None
    return built


def drawn(tried: Policy, image: Pixels, seeds: range) -> Pixels:
    made = []
    for seed in seeds:
        tried.reseed(seed)
        made.append(tried(image))
    return np.stack(made)


def change(tried: Policy, image: Pixels) -> float:
    """Mean distance of 40 draws from the image, in grey values."""
    return float(np.abs(drawn(tried, image, range(40)).astype(float) - image).mean())


def test_every_name_of_the_configuration_is_a_policy() -> None:
    assert set(get_args(PolicyName)) == {"none", *NAMES}


def test_there_is_no_policy_where_none_is_asked_for_or_it_never_acts() -> None:
    assert build_policy(AugmentConfig(name="none")) is None
    assert build_policy(AugmentConfig(name="never", policy="document", policy_p=0.0)) is None


@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_shape_and_type_are_kept_and_the_given_image_is_not_written_to(
    name: str, strength: float, side: int
) -> None:
    tried = policy(name, strength=strength)
    for image in (photograph(side), page(side), grey(side)):
        before = image.copy()
        image.setflags(write=False)
        made = drawn(tried, image, range(12))
        assert (made.shape, made.dtype) == ((12, side, side, 3), np.dtype(np.uint8))
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("side", [8, 17])
@pytest.mark.parametrize("name", NAMES)
def test_small_and_odd_sides_work(name: str, side: int) -> None:
    made = drawn(policy(name, strength=1.0), page(side), range(30))
    assert made.shape == (30, side, side, 3)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_everything(name: str) -> None:
    image = photograph(48)
    tried, other = policy(name), policy(name)
    tried.reseed(7)
    first = np.stack([tried(image) for _ in range(5)])
    other(image)
    other.reseed(7)
    np.testing.assert_array_equal(np.stack([other(image) for _ in range(5)]), first)
    assert (first[1:] != first[0]).any()
    seeds = drawn(tried, image, range(30))
    assert len({one.tobytes() for one in seeds}) >= 10


@pytest.mark.parametrize("name", NAMES)
def test_strength_0_is_hardly_seen_and_more_is_seen_more(name: str) -> None:
    image = photograph(64)
    none, half, full = (change(policy(name, strength=s), image) for s in (0.0, 0.5, 1.0))
    assert none < 0.5
    assert half > 1.0
    assert full > half


@pytest.mark.parametrize("name", NAMES)
def test_it_acts_with_its_probability(name: str) -> None:
    image = photograph(32)
    always, seldom = policy(name), policy(name, policy_p=0.2)
    changed = (drawn(always, image, range(100)) != image).any(axis=(1, 2, 3)).sum()
    seldom_changed = (drawn(seldom, image, range(100)) != image).any(axis=(1, 2, 3)).sum()
    assert changed > 60
    assert 5 <= seldom_changed <= 40


@pytest.mark.parametrize("name", NAMES)
def test_a_pickled_policy_makes_the_same_images(name: str) -> None:
    image = photograph(40)
    tried = policy(name)
    tried(image)
    other = pickle.loads(pickle.dumps(tried))
    np.testing.assert_array_equal(drawn(other, image, range(10)), drawn(tried, image, range(10)))


def _all_drawn(policies: list[Policy], image: Pixels) -> list[Pixels]:
    return [drawn(one, image, range(6)) for one in policies]


def test_a_spawned_process_makes_the_same_images() -> None:
    image, policies = photograph(32), [policy(name) for name in NAMES]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        theirs = pool.apply(_all_drawn, (policies, image))
    for mine, other in zip(_all_drawn(policies, image), theirs, strict=True):
        np.testing.assert_array_equal(other, mine)


def test_two_sizes_of_images_may_take_turns() -> None:
    tried = policy("document")
    small, large = drawn(tried, page(32), range(5)), drawn(tried, page(64), range(5))
    np.testing.assert_array_equal(drawn(policy("document"), page(64), range(5)), large)
    np.testing.assert_array_equal(drawn(tried, page(32), range(5)), small)


def test_steps_are_drawn_independently_of_each_other() -> None:
    """Noise and blur are each left out of some images, but not always together."""
    flat, edge = np.full((32, 32, 3), 128, np.uint8), page(32)
    tried = policy("noise_blur", strength=0.5)
    noisy = (drawn(tried, flat, range(200)) != flat).any(axis=(1, 2, 3))
    changed = (drawn(tried, edge, range(200)) != edge).any(axis=(1, 2, 3))
    blurred_only = (changed & ~noisy).sum()
    assert 100 < noisy.sum() < 170
    assert 10 < blurred_only < 80


@pytest.mark.parametrize("name", ["document", "morphology", "randaugment"])
def test_what_comes_in_from_outside_is_grey_as_asked(name: str) -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    config = AugmentConfig(name="x", policy=name, strength=1.0)  # type: ignore[arg-type]
    white = build_policy(config, fill=255)
    assert white is not None
    if name == "morphology":
        np.testing.assert_array_equal(drawn(white, image, range(20)), np.stack([image] * 20))
    dark = build_policy(config, fill=0)
    assert dark is not None
    made = drawn(dark, image, range(60))
    corners = made[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 0).all(axis=2).any()
    outside = made[(made == 0).any(axis=3)]
    if name == "morphology":
        assert (outside == 0).all(axis=1).any()


def test_importing_loads_no_library_and_building_asks_no_server() -> None:
    """albumentations asks a server for its newest version unless told not to."""
    code = (
        "import os, sys, numpy\n"
        "from search_spaces.config import AugmentConfig\n"
        "from trainables.policies.build import build_policy\n"
        "policy = build_policy(AugmentConfig(name='x', policy='document'))\n"
        "assert 'albumentations' not in sys.modules\n"
        "policy(numpy.zeros((8, 8, 3), numpy.uint8))\n"
        "assert 'albumentations' in sys.modules\n"
        "assert os.environ['NO_ALBUMENTATIONS_UPDATE'] == '1'\n"
        "import cv2; assert cv2.getNumThreads() == 1\n"
    )
    environment = {
        key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
