"""Who prepares the batches changes their speed and nothing else."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.config import AugmentConfig, PreprocessConfig
from trainables import device_augment
from trainables import loader as loader_module
from trainables.decoded_source import DecodedSource
from trainables.errors import UnreadableImageError
from trainables.image_cache import ImageCache
from trainables.loader import TrainLoader
from trainables.loader_settings import LoaderSettings
from trainables.recipe import Normalisation
from trainables.train_batches import Augmentation, HostBatch, Place, TrainBatches

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
    cache: ImageCache,
    workers: int | None = None,
    *,
    on_device: bool = False,
    batch_size: int = 2,
    cores: int | None = None,
) -> TrainLoader:
    how = Augmentation(STRONG, PreprocessConfig(), SIZE, PLAIN, on_device=on_device)
    labels = (ROWS % 4).astype(np.int32)
    batches = TrainBatches(cache, ROWS, labels, how, batch_size=batch_size, seed=0)
    return TrainLoader(batches, how, n_classes=4, device=CPU, workers=workers, cores=cores)


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


def test_when_memory_runs_out_fewer_images_are_made_at_a_time(
    cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = taken(loader(cache, on_device=True, batch_size=8), 1)
    tried: list[int | None] = []
    real = device_augment.render

    def render(*given: Any, at_once: int, **more: Any) -> torch.Tensor:
        tried.append(at_once)
        if at_once > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*given, at_once=at_once, **more)

    monkeypatch.setattr(device_augment, "render", render)
    one = loader(cache, on_device=True, batch_size=8)
    assert_same(taken(one, 1), expected)
    assert tried == [8, 4, 2, 2, 2]
    one.at_most(1)
    one.at_most(6)
    assert one.at_once == 1


def test_processes_are_chosen_for_the_cores_of_the_fold_run(
    cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def choose(before: LoaderSettings, *_: float) -> LoaderSettings:
        asked.append(int(_[-1]))
        return before

    monkeypatch.setattr(loader_module, "measured_settings", choose)
    monkeypatch.setattr(loader_module, "cpus_for_one_device", lambda: 48)
    for cores in (12, None):
        one = loader(cache, on_device=True, cores=cores)
        one._is_measured = False  # as on a GPU
        taken(one, 1)
    assert asked == [12, 48]


@pytest.mark.slow
def test_an_image_that_a_process_cannot_read_is_told_whole(tmp_path: Path) -> None:
    """By path and kind, on which it depends that the fold run is tried on another machine."""
    paths = [str(tmp_path / f"{row}.png") for row in range(23)]
    how = Augmentation(AugmentConfig(name="none"), PreprocessConfig(), SIZE, PLAIN)
    labels = (ROWS % 4).astype(np.int32)
    batches = TrainBatches(DecodedSource(paths, SIZE), ROWS, labels, how, batch_size=23, seed=0)
    one = TrainLoader(batches, how, n_classes=4, device=CPU, workers=1)
    with pytest.raises(
        UnreadableImageError, match=r"\d\.png: No such file or directory$"
    ) as caught:
        taken(one, 1)
    assert caught.value.where in paths


def test_an_error_of_a_process_is_raised_here_as_it_was(cache: ImageCache) -> None:
    class Unreadable(TrainBatches):
        def __getitem__(self, place: Place) -> HostBatch:
            raise UnreadableImageError("a.png", f"gone at {place}")

    how = Augmentation(STRONG, PreprocessConfig(), SIZE, PLAIN)
    batches = Unreadable(cache, ROWS, ROWS, how, batch_size=8, seed=0)
    told = pickle.loads(pickle.dumps(loader_module._Told(batches)[1, 2]))
    assert isinstance(told, UnreadableImageError)
    with pytest.raises(UnreadableImageError, match=r"^a\.png: gone at \(1, 2\)$") as caught:
        loader_module._as_batch(told)
    assert caught.value.where == "a.png"


@pytest.mark.slow
def test_processes_make_the_same_batches_epoch_after_epoch(cache: ImageCache) -> None:
    here, elsewhere = loader(cache), loader(cache, workers=2)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for epoch in (1, 2):
        assert_same(taken(elsewhere, epoch), taken(here, epoch))
    assert torch.equal(torch.get_rng_state(), state)
