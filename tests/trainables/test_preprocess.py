from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from search_spaces.config import PreprocessConfig
from tests.trainables.odd_images import encoded, picture
from trainables.errors import DataError
from trainables.images import read_square
from trainables.preprocess import pixels_key, prepared_square, preprocess_image

DENOISE = PreprocessConfig(denoise=True)
CLAHE = PreprocessConfig(clahe=True)
GREY = PreprocessConfig(grey=True)
ALL = PreprocessConfig(denoise=True, clahe=True, grey=True)


def test_nothing_to_do_returns_the_image_itself() -> None:
    image = picture()
    assert preprocess_image(image, PreprocessConfig(resize="letterbox", fill=255)) is image


def test_grey_has_three_equal_channels_of_the_luma() -> None:
    grey = preprocess_image(picture(), GREY)
    assert (grey.dtype, grey.shape) == (np.uint8, (60, 80, 3))
    luma = picture() @ np.array([0.299, 0.587, 0.114])
    for channel in range(3):
        assert np.abs(grey[..., channel] - luma).max() <= 1


def test_denoising_takes_noise_out_and_keeps_edges() -> None:
    clean = np.full((64, 64, 3), 60, np.uint8)
    clean[:, 32:] = 200
    noise = np.random.default_rng(0).normal(0, 6, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).astype(np.uint8)
    denoised = preprocess_image(noisy, DENOISE).astype(int)
    assert np.abs(denoised - clean).mean() < 0.5 * np.abs(noisy.astype(int) - clean).mean()
    assert (denoised[:, 33] - denoised[:, 30]).min() > 100


def test_equalising_brings_out_what_is_dark_and_leaves_colours() -> None:
    dark = (picture() // 8 + 20).astype(np.uint8)
    equalised = preprocess_image(dark, CLAHE)
    assert equalised.std() > 1.3 * dark.std()
    before, after = (cv2.cvtColor(image, cv2.COLOR_RGB2LAB) for image in (dark, equalised))
    assert np.abs(before[..., 1:].astype(int) - after[..., 1:]).mean() < 2


@pytest.mark.parametrize("config", [DENOISE, CLAHE, GREY, ALL])
@pytest.mark.parametrize("shape", [(64, 64), (8, 8), (33, 50)])
def test_the_input_is_left_alone_and_the_result_repeats(
    config: PreprocessConfig, shape: tuple[int, int]
) -> None:
    image = picture(*shape)
    first = preprocess_image(image, config)
    np.testing.assert_array_equal(image, picture(*shape))
    np.testing.assert_array_equal(first, preprocess_image(image, config))
    assert first.shape == image.shape


def test_all_steps_come_in_their_order() -> None:
    image = picture()
    for config in (DENOISE, CLAHE, GREY):
        image = preprocess_image(image, config)
    np.testing.assert_array_equal(preprocess_image(picture(), ALL), image)


def test_the_number_of_opencvs_threads_changes_nothing() -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        several = preprocess_image(picture(128, 128), ALL)
        cv2.setNumThreads(0)
        np.testing.assert_array_equal(preprocess_image(picture(128, 128), ALL), several)
    finally:
        cv2.setNumThreads(before)


def test_the_key_differs_where_pixels_do_and_only_there() -> None:
    configs = (PreprocessConfig(), DENOISE, CLAHE, GREY, ALL)
    assert [pixels_key(config) for config in configs] == ["", "d", "c", "g", "dcg"]
    assert pixels_key(PreprocessConfig(resize="crop", fill=9, normalize="dataset")) == ""


def test_a_file_becomes_its_preprocessed_square_and_ratio(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(), "PNG"))
    square, aspect = prepared_square(path, 32, ALL)
    np.testing.assert_array_equal(square, preprocess_image(read_square(path, 32), ALL))
    assert aspect == 80 / 60
    again, _ = prepared_square(path.read_bytes(), 32, ALL, "a.png")
    np.testing.assert_array_equal(again, square)
    with pytest.raises(DataError, match=r"b\.png: not an image"):
        prepared_square(b"text", 32, ALL, "b.png")
