from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from search_spaces.config import AugmentConfig
from trainables.mixing import Mix, draw_mix, mix_images, mix_targets

MIXUP = AugmentConfig(name="made", mixup=1.0, mixup_alpha=0.4)
CUTMIX = AugmentConfig(name="made", cutmix=1.0, cutmix_alpha=1.0)


def _draws(augment: AugmentConfig, n: int, size: int = 64) -> list[Mix | None]:
    generator = np.random.default_rng(0)
    return [draw_mix(augment, 8, size, generator) for _ in range(n)]


def test_nothing_is_mixed_where_mixing_is_off() -> None:
    generator = np.random.default_rng(0)
    assert draw_mix(AugmentConfig(name="made"), 8, 32, generator) is None
    assert generator.random() == np.random.default_rng(0).random()


def test_batches_are_mixed_as_often_as_asked() -> None:
    augment = AugmentConfig(name="made", mixup=0.25, cutmix=0.35)
    kinds = [mix.kind if mix else None for mix in _draws(augment, 4000)]
    assert kinds.count("mixup") / 4000 == pytest.approx(0.25, abs=0.03)
    assert kinds.count("cutmix") / 4000 == pytest.approx(0.35, abs=0.03)


def test_shares_of_mixup_follow_the_beta_distribution() -> None:
    shares = [mix.lam for mix in _draws(MIXUP, 3000) if mix]
    assert kstest(shares, beta(0.4, 0.4).cdf).pvalue > 1e-3


def test_shares_of_cutmix_follow_it_where_the_box_is_not_cut_off() -> None:
    mixes = [mix for mix in _draws(CUTMIX, 6000, size=1000) if mix]
    # The side of a box that ends before both edges is the drawn one: 1 - lam = (side / size)^2.
    whole = [mix for mix in mixes if min(mix.box) > 0 and max(mix.box) < 1000]
    sides = np.array([mix.box[2] - mix.box[0] for mix in whole])
    # A box of side s avoids the edges with probability (1 - s)^2; weighing undoes this choice.
    weights = 1.0 / (1.0 - sides / 1000.0) ** 2
    small = sides < 500
    share = weights[small & (sides < 250)].sum() / weights[small].sum()
    assert share == pytest.approx(0.25, abs=0.05)  # P(s^2 < 1/16 | s^2 < 1/4), 1 - lam uniform


def test_the_share_of_cutmix_is_that_of_the_pixels() -> None:
    for mix in _draws(CUTMIX, 200):
        assert mix is not None
        y0, x0, y1, x1 = mix.box
        assert mix.lam == pytest.approx(1.0 - (y1 - y0) * (x1 - x0) / 64**2)


@settings(deadline=None)
@given(n=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_partners_are_each_others(n: int, seed: int) -> None:
    mix = draw_mix(MIXUP, n, 32, np.random.default_rng(seed))
    assert mix is not None
    assert np.array_equal(mix.partner[mix.partner], np.arange(n))
    assert (mix.partner == np.arange(n)).sum() == n % 2
    assert sorted(set(mix.pairs.ravel().tolist())) == list(range(n))
    assert len(mix.pairs) == (n + 1) // 2


@pytest.mark.parametrize("augment", [MIXUP, CUTMIX])
def test_images_are_mixed_as_their_labels(augment: AugmentConfig) -> None:
    """An image that is its class everywhere: its mean is the mean label."""
    labels = np.array([0, 1, 1, 0, 1], np.int64)
    images = np.broadcast_to(labels[:, None, None, None], (5, 16, 16, 3)).astype(np.float32)
    mix = draw_mix(augment, 5, 16, np.random.default_rng(3))
    assert mix is not None
    targets = mix_targets(labels, mix, 2)
    mixed = images.copy()
    assert mix_images(mixed, mix) is mixed
    np.testing.assert_allclose(mixed.mean((1, 2, 3)), targets[:, 1], atol=1e-6)
    np.testing.assert_allclose(targets.sum(1), 1.0, atol=1e-6)
    assert targets.dtype == np.float32


@pytest.mark.parametrize("augment", [MIXUP, CUTMIX])
def test_tensors_are_mixed_as_arrays(augment: AugmentConfig) -> None:
    generator = np.random.default_rng(0)
    images = generator.random((6, 16, 16, 3), np.float32)
    labels = generator.integers(0, 4, 6)
    mix = draw_mix(augment, 6, 16, generator)
    assert mix is not None
    tensor = torch.from_numpy(images.copy()).permute(0, 3, 1, 2)
    mixed = mix_images(tensor, mix)
    np.testing.assert_allclose(
        mixed.permute(0, 2, 3, 1).numpy(), mix_images(images.copy(), mix), atol=1e-6
    )
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    targets = mix_targets(torch.from_numpy(labels), mix, 4)
    assert np.array_equal(targets.numpy(), mix_targets(labels, mix, 4))
