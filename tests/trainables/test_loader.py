from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.config import AugmentConfig
from trainables.augment import TrainTransform, evaluation_transform
from trainables.backbone import Normalisation
from trainables.image_cache import ImageCache
from trainables.loader import (
    Batch,
    TrainBatches,
    TrainLoader,
    evaluation_batches,
    split_batches,
    to_input,
)

NONE = AugmentConfig(name="none", affine=0.0)
STRONG = AugmentConfig(
    name="strong", horizontal_flip=0.5, rotate_degrees=30, zoom=0.2, brightness=0.3, erase=0.5
)
ROWS = np.array([2, 3, 5, 7, 8, 10, 11])  # of 12: the others are held out


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    """12 noisy images of 16 px; the first pixel of image i is (i, i, i)."""
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)
    pixels[:, 0, 0] = np.arange(12)[:, None]
    np.save(tmp_path / "cache.npy", pixels)
    return ImageCache(tmp_path / "cache.npy")


def batches_of(
    cache: ImageCache, augment: AugmentConfig = NONE, batch_size: int = 3, seed: int = 0
) -> TrainBatches:
    transform = TrainTransform(augment, 16)
    return TrainBatches(
        cache, ROWS, (ROWS * 10).astype(np.int32), transform, batch_size=batch_size, seed=seed
    )


def rows_of(batch: Batch) -> list[int]:
    return batch.images[:, 0, 0, 0].tolist()


def test_an_epoch_holds_every_row_once_with_its_label(cache: ImageCache) -> None:
    batches = list(TrainLoader(batches_of(cache), workers=0).epoch(1))
    assert [len(batch.images) for batch in batches] == [3, 4]
    rows = [row for batch in batches for row in rows_of(batch)]
    assert sorted(rows) == ROWS.tolist()
    assert [label for batch in batches for label in batch.labels] == [10 * row for row in rows]
    np.testing.assert_array_equal(batches[0].images, cache[rows[:3]])
    assert (batches[0].images.dtype, batches[0].labels.dtype) == (np.uint8, np.int64)


def test_every_epoch_has_an_order_of_its_own(cache: ImageCache) -> None:
    loader = TrainLoader(batches_of(cache), workers=0)
    orders = {
        tuple(row for batch in loader.epoch(epoch) for row in rows_of(batch))
        for epoch in (1, 2, 3, 4)
    }
    assert len(orders) == 4
    assert len(loader) == 2


def test_a_batch_depends_on_seed_epoch_and_number_only(cache: ImageCache) -> None:
    first, again = batches_of(cache, STRONG), batches_of(cache, STRONG)
    expected = {place: first[place] for place in [(1, 0), (1, 1), (2, 0), (2, 1)]}
    for place in [(2, 1), (1, 1), (2, 0), (1, 0), (1, 0)]:
        np.testing.assert_array_equal(again[place].images, expected[place].images)
        np.testing.assert_array_equal(again[place].labels, expected[place].labels)
    other = batches_of(cache, STRONG, seed=1)
    assert (other[1, 0].images != expected[1, 0].images).any()


def test_the_same_row_is_changed_otherwise_in_another_epoch(cache: ImageCache) -> None:
    noisy = AugmentConfig(name="bright", affine=0.0, brightness=0.5)
    batches = batches_of(cache, noisy, batch_size=8)
    means = [
        dict(zip(batch.labels.tolist(), batch.images.mean(axis=(1, 2, 3)).tolist(), strict=True))
        for batch in (batches[1, 0], batches[2, 0])
    ]
    assert all(means[0][label] != means[1][label] for label in means[0])


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


def test_evaluation_reads_the_rows_in_order_and_resizes_only_where_needed(
    cache: ImageCache,
) -> None:
    rows = [9, 0, 4, 1, 11]
    as_is = list(evaluation_batches(cache, rows, evaluation_transform(16), 2))
    assert [len(images) for images in as_is] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(as_is), cache[rows])
    larger = list(evaluation_batches(cache, rows, evaluation_transform(24), 2))
    assert [images.shape for images in larger] == [(2, 24, 24, 3), (2, 24, 24, 3), (1, 24, 24, 3)]
    assert list(evaluation_batches(cache, [], evaluation_transform(16), 2)) == []


def test_the_input_is_normalised_and_channels_last() -> None:
    images = np.zeros((2, 4, 5, 3), np.uint8)
    images[0, 1, 2] = (255, 51, 0)
    normalisation = Normalisation(mean=(0.5, 0.2, 0.1), std=(0.25, 0.5, 0.1))
    found = to_input(images, normalisation, torch.device("cpu"))
    assert found.shape == (2, 3, 4, 5)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found[0, :, 1, 2], torch.tensor([2.0, 0.0, -1.0]))
    torch.testing.assert_close(found[1, :, 0, 0], torch.tensor([-2.0, -0.4, -1.0]))


@pytest.mark.slow
def test_processes_make_the_same_batches_epoch_after_epoch(cache: ImageCache) -> None:
    here = TrainLoader(batches_of(cache, STRONG), workers=0)
    elsewhere = TrainLoader(batches_of(cache, STRONG), workers=2)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for epoch in (1, 2):
        expected, found = list(here.epoch(epoch)), list(elsewhere.epoch(epoch))
        assert len(found) == len(expected)
        for mine, theirs in zip(expected, found, strict=True):
            np.testing.assert_array_equal(theirs.images, mine.images)
            np.testing.assert_array_equal(theirs.labels, mine.labels)
    assert torch.equal(torch.get_rng_state(), state)
