from __future__ import annotations

import random

import numpy as np
import pytest

from trainables.policies.noise import FIELD_DEVIATION, draw_grain, grain, noise_field


def test_the_field_has_the_stated_mean_and_deviation() -> None:
    field = noise_field(np.random.default_rng(0), 200, 3)
    assert (field.shape, field.dtype) == ((200, 200, 3), np.dtype(np.uint8))
    assert field.mean() == pytest.approx(127.5, abs=1.0)
    assert field.std() == pytest.approx(FIELD_DEVIATION, abs=0.7)


def test_grain_has_the_asked_deviation_and_no_bias() -> None:
    flat = np.full((200, 200, 3), 120, np.uint8)
    noisy = grain(flat, noise_field(np.random.default_rng(1), 200, 3), 12.0)
    assert noisy.std() == pytest.approx(12.0, abs=0.4)
    assert noisy.mean() == pytest.approx(120.0, abs=0.5)


def test_noise_of_one_channel_keeps_grey_grey() -> None:
    flat = np.full((32, 32, 3), 120, np.uint8)
    noisy = grain(flat, noise_field(np.random.default_rng(1), 32, 1), 20.0)
    assert (noisy == noisy[:, :, :1]).all()
    assert noisy.std() > 10


def test_values_stay_within_the_range_of_a_byte() -> None:
    ends = np.zeros((64, 64, 3), np.uint8)
    ends[32:] = 255
    noisy = grain(ends, noise_field(np.random.default_rng(1), 64, 3), 40.0)
    assert noisy[:32].mean() < 40
    assert noisy[32:].mean() > 215


def test_drawn_noise_is_coloured_as_often_as_asked() -> None:
    chooser, generator = random.Random(0), np.random.default_rng(0)
    drawn = [draw_grain(chooser, generator, 4, deviation=(2.0, 5.0)) for _ in range(200)]
    coloured = sum(np.asarray(one["field"]).shape[2] == 3 for one in drawn)
    assert 70 < coloured < 130
    deviations = [float(one["deviation"]) for one in drawn]  # type: ignore[arg-type]
    assert 2.0 <= min(deviations) < 2.3
    assert 4.7 < max(deviations) <= 5.0
