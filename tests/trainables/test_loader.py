"""Who prepares the batches changes their speed and nothing else."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from search_spaces.config import AugmentConfig, PreprocessConfig
from trainables import loader as loader_module
from trainables.image_cache import ImageCache
from trainables.loader import TrainLoader
from trainables.loader_settings import LoaderSettings
from trainables.recipe import Normalisation
from trainables.train_batches import Augmentation, TrainBatches

CPU = torch.device("cpu")
PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
STRONG = AugmentConfig(
    name="strong", horizontal_flip=0.5, rotate_degrees=30, brightness=0.3, policy="noise_blur"
)
ROWS = np.arange(23)
SIZE = 16
Batches = list[tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    pixels = np.random.default_rng(0).integers(0, 255, (23, SIZE, SIZE, 3), dtype=np.uint8)
    np.save(tmp_path / "cache.npy", pixels)
    return ImageCache(tmp_path / "cache.npy")


def loader(
    cache: ImageCache, workers: int | None = None, *, on_device: bool = False
) -> TrainLoader:
    how = Augmentation(STRONG, PreprocessConfig(), SIZE, PLAIN, on_device=on_device)
    labels = (ROWS % 4).astype(np.int32)
    batches = TrainBatches(cache, ROWS, labels, how, batch_size=2, seed=0)
    return TrainLoader(batches, how, n_classes=4, device=CPU, workers=workers)


def taken(one: TrainLoader, epoch: int) -> Batches:
    return [(inputs.clone(), targets.clone()) for inputs, targets in one.epoch(epoch)]


def assert_same(found: Batches, expected: Batches) -> None:
    assert len(found) == len(expected)
    for (inputs, targets), (inputs_then, targets_then) in zip(found, expected, strict=True):
        assert torch.equal(inputs, inputs_then)
        assert torch.equal(targets, targets_then)


def test_on_a_cpu_no_process_and_no_thread_is_started(cache: ImageCache) -> None:
    one = loader(cache)
    assert len(taken(one, 1)) == len(one) == 11  # the last batch of one row joins another
    assert one.settings == LoaderSettings()
    assert multiprocessing.active_children() == []


def test_a_thread_ahead_makes_the_same_batches(cache: ImageCache) -> None:
    expected = taken(loader(cache, on_device=True), 1)
    ahead = loader(cache, on_device=True)
    ahead.settings = LoaderSettings(prefetch=2)
    assert_same(taken(ahead, 1), expected)


def test_an_epoch_may_be_left_in_the_middle(cache: ImageCache) -> None:
    ahead = loader(cache, on_device=True)
    ahead.settings = LoaderSettings(prefetch=2)
    batches = ahead.epoch(1)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert_same(taken(ahead, 2), taken(loader(cache, on_device=True), 2))


def test_what_is_measured_is_handed_out_and_chooses_the_settings_once(
    cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[float, float]] = []

    def choose(
        before: LoaderSettings, prepare_seconds: float, step_seconds: float, cpus: int
    ) -> LoaderSettings:
        measured.append((prepare_seconds, step_seconds))
        return LoaderSettings(prefetch=1)

    monkeypatch.setattr(loader_module, "measured_settings", choose)
    one = loader(cache, on_device=True)
    one._is_measured = False  # as on a GPU
    assert_same(taken(one, 1), taken(loader(cache, on_device=True), 1))
    assert one.settings == LoaderSettings(prefetch=1)
    assert_same(taken(one, 2), taken(loader(cache, on_device=True), 2))
    assert len(measured) == 1
    assert min(measured[0]) > 0.0


@pytest.mark.slow
def test_processes_make_the_same_batches_epoch_after_epoch(cache: ImageCache) -> None:
    here, elsewhere = loader(cache), loader(cache, workers=2)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for epoch in (1, 2):
        assert_same(taken(elsewhere, epoch), taken(here, epoch))
    assert torch.equal(torch.get_rng_state(), state)
