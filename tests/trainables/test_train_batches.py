"""A batch depends on (seed, epoch, number) and on nothing else; device and processor agree."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.config import AugmentConfig, PreprocessConfig
from trainables import decoded_source
from trainables.decoded_source import DecodedSource
from trainables.image_cache import ImageCache
from trainables.recipe import Normalisation
from trainables.train_batches import Augmentation, HostBatch, TrainBatches, deliver, split_batches

CPU = torch.device("cpu")
PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
NONE = AugmentConfig(name="none", affine=0.0)
STRONG = AugmentConfig(
    name="strong", horizontal_flip=0.5, rotate_degrees=30, zoom=0.2, brightness=0.3, erase=0.5
)
MIXED = AugmentConfig(name="mixed", affine=0.0, mixup=0.5, cutmix=0.5, mixup_alpha=1.0)
NOISE = AugmentConfig(name="noise", affine=0.0, policy="noise_blur", policy_p=1.0)
ROWS = np.array([2, 3, 5, 7, 8, 10, 11])  # of 12: the others are held out
SIZE = 16


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    """12 noisy images of 16 px; the first pixel of image i is (i, i, i)."""
    pixels = np.random.default_rng(0).integers(20, 255, (12, SIZE, SIZE, 3), dtype=np.uint8)
    pixels[:, 0, 0] = np.arange(12)[:, None]
    np.save(tmp_path / "cache.npy", pixels)
    return ImageCache(tmp_path / "cache.npy")


def how(augment: AugmentConfig = NONE, *, on_device: bool = False) -> Augmentation:
    return Augmentation(augment, PreprocessConfig(), SIZE, PLAIN, on_device=on_device)


def batches_of(
    cache: ImageCache, one: Augmentation | None = None, batch_size: int = 3, seed: int = 0
) -> TrainBatches:
    labels = (ROWS % 5).astype(np.int32)
    return TrainBatches(cache, ROWS, labels, one or how(), batch_size=batch_size, seed=seed)


def rows_of(batch: HostBatch) -> list[int]:
    return (batch.images[:, 0, 0, 0] * 255).round().int().tolist()


def test_an_epoch_holds_every_row_once_with_its_label(cache: ImageCache) -> None:
    batches = batches_of(cache)
    assert len(batches) == 2
    epoch = [batches[1, number] for number in range(2)]
    assert [len(batch.images) for batch in epoch] == [3, 4]
    rows = [row for number in range(2) for row in rows_of(batches[1, number])]
    assert sorted(rows) == ROWS.tolist()
    labels = [int(label) for batch in epoch for label in batch.labels]
    assert labels == [row % 5 for row in rows]
    first = batches[1, 0].images.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(first * 255, cache[rows[:3]], atol=1e-3)
    assert (first.dtype, epoch[0].labels.dtype) == (np.float32, torch.int64)


def test_every_epoch_has_an_order_of_its_own(cache: ImageCache) -> None:
    batches = batches_of(cache)
    orders = {
        tuple(row for number in range(2) for row in rows_of(batches[epoch, number]))
        for epoch in (1, 2, 3, 4)
    }
    assert len(orders) == 4


@pytest.mark.parametrize("augment", [STRONG, MIXED, NOISE], ids=lambda one: one.name)
@pytest.mark.parametrize("on_device", [False, True])
def test_a_batch_depends_on_seed_epoch_and_number_only(
    cache: ImageCache, augment: AugmentConfig, on_device: bool
) -> None:
    one = how(augment, on_device=on_device)
    first, again = batches_of(cache, one), batches_of(cache, one)

    def inputs(batches: TrainBatches, place: tuple[int, int]) -> torch.Tensor:
        return deliver(batches[place], one, 5, CPU)[0].clone()

    expected = {place: inputs(first, place) for place in [(1, 0), (1, 1), (2, 0), (2, 1)]}
    again = pickle.loads(pickle.dumps(again))
    for place in [(2, 1), (1, 1), (2, 0), (1, 0), (1, 0)]:
        assert torch.equal(inputs(again, place), expected[place])
    other = batches_of(cache, one, seed=1)
    assert not torch.equal(inputs(other, (1, 0)), expected[1, 0])


@pytest.mark.parametrize("augment", [NONE, STRONG, MIXED, NOISE], ids=lambda one: one.name)
def test_the_device_does_what_the_processor_does(cache: ImageCache, augment: AugmentConfig) -> None:
    here, there = how(augment), how(augment, on_device=True)
    mine, theirs = batches_of(cache, here), batches_of(cache, there)
    for place in [(1, 0), (1, 1), (2, 0)]:
        expected, labels = deliver(mine[place], here, 5, CPU)
        found, same_labels = deliver(theirs[place], there, 5, CPU)
        assert theirs[place].images.dtype == torch.uint8
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0.0)
        assert (found - expected).abs().mean() < 2e-3
        torch.testing.assert_close(same_labels, labels)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_inputs_lie_in_memory_as_the_model_wants_them(
    cache: ImageCache, on_device: bool, channels_last: bool
) -> None:
    one = replace(how(STRONG, on_device=on_device), channels_last=channels_last)
    batches = batches_of(cache, one)
    images, _ = deliver(batches[1, 0], one, 5, CPU)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert images.is_contiguous(memory_format=layout)
    usual, _ = deliver(batches[1, 0], how(STRONG, on_device=on_device), 5, CPU)
    assert torch.equal(images, usual)


@pytest.mark.parametrize(("resize", "reads"), [("squash", 0), ("letterbox", 12), ("crop", 12)])
def test_ratios_are_read_once_for_all_processes_and_only_where_they_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: Any, reads: int
) -> None:
    paths = [str(tmp_path / f"{row}.png") for row in range(12)]
    for row, path in enumerate(paths):
        cv2.imwrite(path, np.full((20, 10 + row, 3), row, np.uint8))
    read: list[str] = []
    real = decoded_source.upright_size

    def upright_size(path: str) -> tuple[int, int]:
        read.append(path)
        return real(path)

    monkeypatch.setattr(decoded_source, "upright_size", upright_size)
    one = replace(how(STRONG), preprocess=PreprocessConfig(resize=resize))
    labels = (ROWS % 5).astype(np.int32)
    batches = TrainBatches(DecodedSource(paths, SIZE), ROWS, labels, one, batch_size=3, seed=0)
    for _ in range(2):  # two processes
        elsewhere = pickle.loads(pickle.dumps(batches))
        assert torch.equal(elsewhere[1, 0].images, batches[1, 0].images)
    assert len(read) == reads


def test_mixed_images_have_mixed_labels(cache: ImageCache) -> None:
    batch = batches_of(cache, how(MIXED))[1, 0]
    _, targets = deliver(batch, how(MIXED), 5, CPU)
    assert targets.shape == (3, 5)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(3))
    _, labels = deliver(batches_of(cache)[1, 0], how(), 5, CPU)
    assert labels.dtype == torch.int64


def test_the_same_row_is_changed_otherwise_in_another_epoch(cache: ImageCache) -> None:
    noisy = AugmentConfig(name="bright", affine=0.0, brightness=0.5)
    batches = batches_of(cache, how(noisy), batch_size=8)
    means = []
    for epoch in (1, 2):
        batch = batches[epoch, 0]
        means.append(sorted(batch.images.mean(dim=(1, 2, 3)).tolist()))
    assert all(one != other for one, other in zip(*means, strict=True))


@settings(deadline=None, max_examples=60)
@given(n=st.integers(2, 60), batch_size=st.integers(2, 20))
def test_batches_keep_the_order_and_no_last_one_has_a_single_row(n: int, batch_size: int) -> None:
    batches = split_batches(np.arange(n), batch_size)
    assert np.concatenate(batches).tolist() == list(range(n))
    lengths = [len(batch) for batch in batches]
    assert min(lengths) >= 2
    assert max(lengths) <= batch_size + 1
    assert set(lengths[:-1]) <= {batch_size}


def test_the_last_batch_of_one_row_joins_the_one_before() -> None:
    assert [batch.tolist() for batch in split_batches(np.arange(7), 3)] == [[0, 1, 2], [3, 4, 5, 6]]
    assert [len(batch) for batch in split_batches(np.arange(8), 3)] == [3, 3, 2]
    assert [len(batch) for batch in split_batches(np.arange(1), 3)] == [1]
    assert [len(batch) for batch in split_batches(np.arange(3), 1)] == [1, 1, 1]
