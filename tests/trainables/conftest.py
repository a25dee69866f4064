"""Runs to train on: prepared once, copied for each test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import TinyImages, _write_images
from tests.trainables.tiny_run import TinyRun, prepare_tiny_run, write_sample_submission


@pytest.fixture(scope="session")
def run_images(tmp_path_factory: pytest.TempPathFactory) -> TinyImages:
    """The labelled images of `tiny_run`: 3 classes of 8."""
    return _write_images(tmp_path_factory.mktemp("run") / "train", 3, 8, 32, seed=0)


@pytest.fixture(scope="session")
def unlabelled_images(tmp_path_factory: pytest.TempPathFactory) -> TinyImages:
    """Its test images: 6 others, in a folder and in the order of a sample submission."""
    return _write_images(tmp_path_factory.mktemp("run") / "test", 3, 2, 32, seed=1)


@pytest.fixture(scope="session")
def prepared_run(
    tmp_path_factory: pytest.TempPathFactory,
    own_cache: Path,
    run_images: TinyImages,
    unlabelled_images: TinyImages,
) -> TinyRun:
    """Three folds of 24 images, 6 test images. Nobody trains in it: see `tiny_run`."""
    storage = tmp_path_factory.mktemp("runs")
    ids = sorted(os.listdir(unlabelled_images.images), reverse=True)
    sample = write_sample_submission(storage / "sample_submission.csv", ids)
    return prepare_tiny_run(
        storage,
        run_images,
        f"data.test_images={unlabelled_images.images}",
        f"data.sample_submission={sample}",
    )


@pytest.fixture
def tiny_run(prepared_run: TinyRun, tmp_path: Path) -> TinyRun:
    """A run directory of the test's own, with nothing trained yet."""
    return prepared_run.copy(tmp_path / "tiny_run")
