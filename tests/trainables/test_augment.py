from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import search_spaces
from search_spaces.config import AugmentConfig
from search_spaces.space import load_study
from trainables.augment import TrainTransform, evaluation_transform

MEMBERS = sorted(
    path.stem for path in (Path(search_spaces.__file__).parent / "augment").glob("*.yaml")
)
ROOT = Path(__file__).resolve().parents[2]


def member(name: str) -> AugmentConfig:
    """A built-in member of the group `augment`, as a search would take it."""
    import optuna

    overrides = ["experiment=digits", f"augment={name}", "backbone=test_resnet"]
    fixed = ["loss.label_smoothing=0", "backbone.drop_rate=0", "optimizer.lr=0.01"]
    study = load_study([*overrides, *fixed])
    return study.space.sample(optuna.trial.FixedTrial({})).augment


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [32, 48, 64])
@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_gives_images_of_the_asked_size(
    image: np.ndarray, name: str, size: int
) -> None:
    config = member(name)
    assert config.name == name
    transform = TrainTransform(config, size)
    for seed in range(5):
        transform.reseed(seed)
        changed = transform(image)
        assert (changed.shape, changed.dtype) == ((size, size, 3), np.dtype(np.uint8))
    assert image.shape == (48, 48, 3)


def test_there_are_members_for_photographs_digits_and_nothing() -> None:
    assert {"none", "light", "strong", "digits"} <= set(MEMBERS)


@pytest.mark.parametrize("name", ["light", "strong", "digits"])
def test_the_seed_decides_everything(image: np.ndarray, name: str) -> None:
    transform, other = TrainTransform(member(name), 48), TrainTransform(member(name), 48)
    transform.reseed(7)
    first = [transform(image) for _ in range(4)]
    other(image)
    other.reseed(7)
    np.testing.assert_array_equal(np.stack([other(image) for _ in range(4)]), np.stack(first))
    assert (first[0] != first[1]).any()
    transform.reseed(8)
    assert (transform(image) != first[0]).any()


def test_none_changes_nothing_but_the_size(image: np.ndarray) -> None:
    np.testing.assert_array_equal(TrainTransform(member("none"), 48)(image), image)
    smaller = TrainTransform(member("none"), 24)(image)
    np.testing.assert_array_equal(smaller, evaluation_transform(24)(image))
    expected = cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(smaller, expected)


def test_flips_are_applied(image: np.ndarray) -> None:
    across = AugmentConfig(name="flip", horizontal_flip=1.0)
    np.testing.assert_array_equal(TrainTransform(across, 48)(image), image[:, ::-1])
    over = AugmentConfig(name="flip", vertical_flip=1.0)
    np.testing.assert_array_equal(TrainTransform(over, 48)(image), image[::-1])


def test_turning_by_180_degrees_at_most_turns(image: np.ndarray) -> None:
    config = AugmentConfig(name="turn", rotate_degrees=180.0)
    transform = TrainTransform(config, 48)
    transform.reseed(0)
    assert np.mean(transform(image) != image) > 0.9


def test_affine_can_be_left_out_of_some_images(image: np.ndarray) -> None:
    transform = TrainTransform(AugmentConfig(name="some", affine=0.5, rotate_degrees=45.0), 48)
    transform.reseed(0)
    kept = [bool((transform(image) == image).all()) for _ in range(40)]
    assert 8 < sum(kept) < 32


def test_light_and_contrast_move_pixel_values_only() -> None:
    grey = np.full((16, 16, 3), 100, np.uint8)
    transform = TrainTransform(AugmentConfig(name="light", brightness=0.5), 16)
    transform.reseed(0)
    values = [transform(grey) for _ in range(10)]
    assert all(len(np.unique(value)) == 1 for value in values)
    assert len({int(value[0, 0, 0]) for value in values}) > 5


def test_erasing_blanks_a_patch() -> None:
    white = np.full((40, 40, 3), 255, np.uint8)
    transform = TrainTransform(AugmentConfig(name="erase", erase=1.0), 40)
    transform.reseed(0)
    for _ in range(10):
        dark = (transform(white) == 0).all(axis=2)
        rows, columns = dark.any(axis=1).sum(), dark.any(axis=0).sum()
        assert 4 <= rows <= 14
        assert 4 <= columns <= 14
        assert dark.sum() == rows * columns


def test_evaluation_leaves_an_image_of_the_right_size_alone(image: np.ndarray) -> None:
    assert evaluation_transform(48)(image) is image
    assert evaluation_transform(64)(image).shape == (64, 64, 3)


def test_a_pickled_transform_makes_the_same_images(image: np.ndarray) -> None:
    transform = TrainTransform(member("strong"), 32)
    other = pickle.loads(pickle.dumps(transform))
    transform.reseed(3)
    other.reseed(3)
    np.testing.assert_array_equal(other(image), transform(image))


def test_importing_asks_no_server_and_loads_no_library() -> None:
    """albumentations asks a server for its newest version unless told not to."""
    code = (
        "import os, sys, trainables.augment as augment\n"
        "assert 'albumentations' not in sys.modules\n"
        "augment.evaluation_transform(8)\n"
        "assert os.environ['NO_ALBUMENTATIONS_UPDATE'] == '1'\n"
    )
    environment = {
        key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
