from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.config import AugmentConfig, PreprocessConfig
from tests.trainables.pictures import squares
from trainables.batch_render import BatchRenderer, BufferPool
from trainables.cpu_augment import render, warp
from trainables.draws import draw_batch, plain_draws
from trainables.mixing import draw_mix

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AUGMENT = AugmentConfig(name="made", crop_min=0.4, rotate_degrees=9.0, erase=0.5, mixup=1.0)
SQUASH = PreprocessConfig()
ROWS = np.array([3, 1, 1, 6, 0])


class NotMapped:
    """A source that has to copy, as one that decodes."""

    size = 40
    aspects = np.ones(7, np.float32)

    def take(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        out[:] = squares(7, 40)[rows]
        return out


@pytest.mark.parametrize("n_threads", [1, 2, 9])
@pytest.mark.parametrize("source", [squares(7, 40), NotMapped()], ids=["array", "copied"])
def test_threads_and_sources_change_nothing(n_threads: int, source: Any) -> None:
    generator = np.random.default_rng(0)
    draws = draw_batch(AUGMENT, SQUASH, np.ones(5, np.float32), 32, generator)
    mix = draw_mix(AUGMENT, 5, 32, generator)
    made = BatchRenderer(32, MEAN, STD, 7, n_threads).render_batch(source, ROWS, draws, mix)
    expected = render(squares(7, 40), draws, 32, MEAN, STD, 7, rows=ROWS, mix=mix)
    assert np.array_equal(made.permute(0, 2, 3, 1).numpy(), expected)
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_bytes_are_gathered_where_nothing_changes() -> None:
    source = squares(7, 40)
    whole = BatchRenderer(40, MEAN, STD)
    assert np.array_equal(whole.byte_batch(source, ROWS).numpy(), source[ROWS])
    plain = plain_draws(SQUASH, np.ones(5, np.float32))
    assert np.array_equal(whole.byte_batch(source, ROWS, plain).numpy(), source[ROWS])
    smaller = BatchRenderer(24, MEAN, STD).byte_batch(source, ROWS, plain)
    assert np.array_equal(smaller.numpy(), warp(source, plain, 24, rows=ROWS))


def test_a_batch_that_someone_holds_is_not_overwritten() -> None:
    renderer = BatchRenderer(16, MEAN, STD)
    source = squares(7, 16)
    draws = plain_draws(SQUASH, np.ones(5, np.float32))
    first = renderer.render_batch(source, ROWS, draws)
    part = first[1:2, :, 3:5]
    kept = part.clone()
    del first
    for _ in range(3):
        renderer.render_batch(source, ROWS[::-1].copy(), draws)
    assert torch.equal(part, kept)


def test_memory_is_used_again_when_nobody_holds_it() -> None:
    pool = BufferPool()
    for _ in range(5):
        array = pool.take((4, 3), np.float32)
        array[:] = 1.0
        del array
    assert len(pool) == 1
    held = pool.take((4, 3), np.float32)
    view = held[1:]
    del held
    tensor = torch.from_numpy(pool.take((4, 3), np.float32)).view(-1)[2:]
    other = pool.take((2, 2), np.uint8)
    assert len(pool) == 3
    addresses = {one.__array_interface__["data"][0] for one in (view, tensor.numpy(), other)}
    assert len(addresses) == 3
    assert other.flags.writeable
    assert other.shape == (2, 2)


def test_a_free_array_that_is_too_small_gives_way() -> None:
    pool = BufferPool()
    pool.take((2,), np.uint8)
    assert pool.take((1000,), np.float32).nbytes == 4000
    assert len(pool) == 1
    assert pool.take((0, 3), np.float32).shape == (0, 3)


def test_an_empty_batch_is_empty() -> None:
    draws = plain_draws(SQUASH, np.ones(0, np.float32))
    made = BatchRenderer(16, MEAN, STD).render_batch(squares(7, 16), ROWS[:0], draws)
    assert made.shape == (0, 3, 16, 16)
