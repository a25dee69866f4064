from __future__ import annotations

from typing import Any

import albumentations
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from torchvision.transforms import ColorJitter

from search_spaces.config import AugmentConfig, PreprocessConfig
from trainables.draws import View, draw_batch, draw_each, grey_boxes, plain_draws

SIMILAR = 1e-3
SQUASH = PreprocessConfig()
LETTERBOX = PreprocessConfig(resize="letterbox")
CROP = PreprocessConfig(resize="crop")


def _augment(**changes: Any) -> AugmentConfig:
    return AugmentConfig(name="made", **changes)


def _ones(n: int) -> np.ndarray:
    return np.ones(n, np.float32)


def _corners(matrix: np.ndarray) -> np.ndarray:
    """(n, 2, 2): source positions of the output's upper left and lower right corner."""
    ends = np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    return np.einsum("nij,kj->nki", matrix, ends)


def test_nothing_is_drawn_for_what_is_off() -> None:
    generator = np.random.default_rng(0)
    draws = draw_batch(_augment(), SQUASH, _ones(4), 32, generator)
    assert draws.is_identity
    assert generator.random() == np.random.default_rng(0).random()


def test_the_same_seed_gives_the_same_draws() -> None:
    augment = _augment(crop_min=0.3, rotate_degrees=20.0, brightness=0.3, erase=0.5)
    one, two = (draw_batch(augment, CROP, _ones(9), 32, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one.matrix, two.matrix)
    assert np.array_equal(one.colour, two.colour)
    assert np.array_equal(one.erase, two.erase)
    assert (one.matrix.dtype, one.colour.dtype, one.erase.dtype) == ("f4", "f4", "i4")


def test_an_image_drawn_by_its_own_seed_does_not_depend_on_the_others() -> None:
    augment = _augment(crop_min=0.3, rotate_degrees=20.0, brightness=0.3, erase=1.0)
    aspects = np.array([0.5, 1.0, 2.0], np.float32)
    three = draw_each(augment, LETTERBOX, aspects, 32, [7, 8, 9])
    alone = draw_each(augment, LETTERBOX, aspects[1:2], 32, [8])
    assert np.array_equal(three.matrix[1:2], alone.matrix)
    assert np.array_equal(three.erase[1:2], alone.erase)
    assert len(draw_each(augment, SQUASH, _ones(0), 32, [])) == 0


def test_seeds_must_be_as_many_as_images() -> None:
    with pytest.raises(ValueError, match="2 seeds for 3 aspects"):
        draw_each(_augment(), SQUASH, _ones(3), 32, [1, 2])


@settings(deadline=None)
@given(aspect=st.floats(0.1, 10.0))
def test_letterbox_shows_the_whole_original_in_its_own_ratio(aspect: float) -> None:
    draws = plain_draws(LETTERBOX, np.array([aspect], np.float32))
    across, down = draws.matrix[0, 0, 0], draws.matrix[0, 1, 1]
    # One output side shows `across` widths and `down` heights: as long, in the original's pixels.
    assert across * aspect == pytest.approx(down, rel=1e-5)
    assert min(across, down) == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(draws.matrix[0] @ [0.5, 0.5, 1.0], [0.5, 0.5], atol=1e-5)


@settings(deadline=None)
@given(aspect=st.floats(0.1, 10.0))
def test_an_evaluation_crop_is_the_middle_square_of_the_original(aspect: float) -> None:
    draws = plain_draws(CROP, np.array([aspect], np.float32))
    across, down = draws.matrix[0, 0, 0], draws.matrix[0, 1, 1]
    assert across * aspect == pytest.approx(down, rel=1e-5)
    assert max(across, down) == pytest.approx(1.0, rel=1e-5)


def test_training_without_random_crops_shows_what_evaluation_shows() -> None:
    aspects = np.array([0.5, 1.0, 2.0], np.float32)
    for preprocess in (SQUASH, LETTERBOX, CROP):
        draws = draw_batch(_augment(), preprocess, aspects, 32, np.random.default_rng(0))
        assert np.array_equal(draws.matrix, plain_draws(preprocess, aspects).matrix)


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), least=st.floats(0.1, 0.9), aspect=st.floats(0.3, 3.0))
def test_a_random_crop_of_the_original_lies_within_it(
    seed: int, least: float, aspect: float
) -> None:
    augment = _augment(crop_min=least, horizontal_flip=0.5, vertical_flip=0.5)
    aspects = np.full(10, aspect, np.float32)
    draws = draw_batch(augment, CROP, aspects, 32, np.random.default_rng(seed))
    assert draws.axis_aligned
    corners = _corners(draws.matrix)
    assert (corners >= -1e-6).all()
    assert (corners <= 1.0 + 1e-6).all()


def test_a_random_crop_of_a_squashed_image_has_the_share_of_its_area() -> None:
    draws = draw_batch(_augment(crop_min=0.5), SQUASH, _ones(200), 32, np.random.default_rng(0))
    shares = draws.matrix[:, 0, 0] * draws.matrix[:, 1, 1]
    assert shares.min() >= 0.5 - 1e-6
    assert shares.max() <= 1.0 + 1e-6


def test_flips_and_turns_come_as_often_as_asked() -> None:
    n = 20_000
    augment = _augment(horizontal_flip=0.5, vertical_flip=0.25)
    draws = draw_batch(augment, SQUASH, _ones(n), 32, np.random.default_rng(0))
    assert (draws.matrix[:, 0, 0] < 0).mean() == pytest.approx(0.5, abs=0.015)
    assert (draws.matrix[:, 1, 1] < 0).mean() == pytest.approx(0.25, abs=0.015)
    turns = draw_batch(_augment(quarter_turns=0.6), SQUASH, _ones(n), 32, np.random.default_rng(0))
    found, counts = np.unique(turns.matrix[:, :, :2].reshape(n, 4), axis=0, return_counts=True)
    assert len(found) == 4
    np.testing.assert_allclose(np.sort(counts / n), [0.2, 0.2, 0.2, 0.4], atol=0.015)
    assert not turns.axis_aligned


def test_affine_changes_are_distributed_as_albumentations() -> None:
    n = 3000
    augment = _augment(rotate_degrees=30.0, shear_degrees=10.0, shift=0.2, zoom=0.25)
    draws = draw_batch(augment, SQUASH, _ones(n), 1000, np.random.default_rng(0))
    ours = np.linalg.inv(
        np.concatenate([draws.matrix, np.tile([[[0.0, 0.0, 1.0]]], (n, 1, 1))], axis=1)
    )
    library = albumentations.Affine(
        rotate=(-30, 30),
        shear={"x": (-10, 10), "y": (0, 0)},
        translate_percent={"x": (-0.2, 0.2), "y": (-0.2, 0.2)},
        scale=(0.75, 1.25),
        keep_ratio=True,
    )
    library.set_random_seed(1)
    shape = {"shape": (1000, 1000, 3)}
    theirs = np.array([library.get_params_dependent_on_data(shape, {})["matrix"] for _ in range(n)])
    theirs[:, :2, 2] /= 1000
    for row in range(2):
        for column in range(3):
            p = ks_2samp(ours[:, row, column], theirs[:, row, column]).pvalue
            assert p > SIMILAR, (row, column, p)


def test_affine_changes_come_as_often_as_asked() -> None:
    augment = _augment(rotate_degrees=30.0, affine=0.3)
    draws = draw_batch(augment, SQUASH, _ones(10_000), 32, np.random.default_rng(0))
    assert (draws.matrix[:, 0, 1] != 0).mean() == pytest.approx(0.3, abs=0.02)


def test_colour_factors_are_distributed_as_torchvisions() -> None:
    n, reach = 3000, (0.4, 0.3, 0.2)
    jitter = ColorJitter(*reach)
    theirs = np.array(
        [
            ColorJitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, None)[1:4]
            for _ in range(n)
        ]
    )
    augment = _augment(brightness=reach[0], contrast=reach[1], saturation=reach[2])
    draws = draw_batch(augment, SQUASH, _ones(n), 32, np.random.default_rng(0))
    for channel in range(3):
        assert ks_2samp(draws.colour[:, channel], theirs[:, channel]).pvalue > SIMILAR
        assert np.abs(draws.colour[:, channel] - 1.0).max() <= reach[channel] + 1e-6


def test_erasing_comes_as_often_as_asked_and_within_its_areas() -> None:
    augment = _augment(erase=0.25, erase_min=0.1, erase_max=0.3)
    erase = draw_batch(augment, SQUASH, _ones(4000), 100, np.random.default_rng(0)).erase
    areas = (erase[:, 2] - erase[:, 0]) * (erase[:, 3] - erase[:, 1]) / 100**2
    assert (areas > 0).mean() == pytest.approx(0.25, abs=0.03)
    assert areas[areas > 0].min() >= 0.09
    assert areas.max() <= 0.31


def test_a_view_twice_as_large_shows_the_middle_quarter() -> None:
    matrix = plain_draws(SQUASH, _ones(1), View(scale=2.0)).matrix
    np.testing.assert_allclose(_corners(matrix)[0], [[0.25, 0.25], [0.75, 0.75]])


def test_four_quarter_turns_are_none() -> None:
    draws = plain_draws(SQUASH, _ones(1), View(quarter_turns=4))
    assert draws.is_identity


def test_a_view_needs_a_size() -> None:
    with pytest.raises(ValueError, match=r"View\.scale is 0"):
        plain_draws(SQUASH, _ones(1), View(scale=0.0))


def test_the_grey_of_contrast_is_taken_where_the_output_looks() -> None:
    matrix = np.array(
        [[[1, 0, 0], [0, 1, 0]], [[-0.5, 0, 0.5], [0, 0.25, 0.5]], [[1, 0, 5], [0, 1, 5]]],
        np.float32,
    )
    step, boxes = grey_boxes(matrix, 256)
    assert step == 8
    assert boxes.tolist() == [[0, 0, 32, 32], [16, 0, 24, 16], [31, 31, 32, 32]]
    assert grey_boxes(matrix, 32)[0] == 1


def test_a_part_of_the_draws_is_draws() -> None:
    draws = draw_batch(_augment(erase=1.0), SQUASH, _ones(6), 32, np.random.default_rng(0))
    assert np.array_equal(draws[2:4].erase, draws.erase[2:4])
    assert not draws.moved_only().erase.any()
    assert np.array_equal(draws.finish_only().erase, draws.erase)
