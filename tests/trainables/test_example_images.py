from __future__ import annotations

import numpy as np

from trainables.example_images import drawn_page, drawn_sketch, example_images


def test_there_are_two_photographs_a_page_and_a_sketch() -> None:
    images = example_images()
    assert list(images) == ["flower", "page", "sketch", "china"]
    for image in images.values():
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert min(image.shape[:2]) >= 300


def test_what_is_drawn_is_dark_on_white_and_inside() -> None:
    for image in (drawn_page(), drawn_sketch()):
        assert image.mean() > 200
        assert image.min() < 60
        assert (image[[0, -1]] == 255).all()
        assert (image[:, [0, -1]] == 255).all()
