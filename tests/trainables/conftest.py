"""Runs to train on: prepared once, copied for each test."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import TinyImages, _write_images
from tests.ensemble.conftest import s3_endpoint

if TYPE_CHECKING:  # the tests of the data side do not wait for torch
    from tests.trainables.tiny_blend import BlendedRun
    from tests.trainables.tiny_run import TinyRun

__all__ = ["s3_endpoint"]


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
    from tests.trainables.tiny_run import prepare_tiny_run, write_sample_submission

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


@pytest.fixture(scope="session")
def blended_run(prepared_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> BlendedRun:
    """Three configurations with all folds, and a blend of two of them. Only to be read."""
    from tests.trainables.tiny_blend import blend_tiny_run

    return blend_tiny_run(prepared_run.copy(tmp_path_factory.mktemp("blended") / "run"))


@pytest.fixture(scope="session")
def exported(blended_run: BlendedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle. Only to be read: see `bundle_folder`."""
    from trainables.bundle import export_bundle

    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export_bundle(str(blended_run.run.root), folder)
    return folder


@pytest.fixture
def bundle_folder(exported: Path, tmp_path: Path) -> Path:
    """A bundle of the test's own."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))
