from __future__ import annotations

import numpy as np
import pytest

from search_spaces.config import AugmentConfig, Configuration, PreprocessConfig
from trainables.example_images import drawn_page, drawn_sketch
from trainables.preview import replay_block, training_block

IMAGES = {"page": drawn_page(), "sketch": drawn_sketch()}


def configuration(augment: AugmentConfig, **preprocess: object) -> Configuration:
    return Configuration.model_validate(
        {
            "backbone": {"name": "test_resnet.r160_in1k"},
            "preprocess": PreprocessConfig.model_validate(preprocess),
            "augment": augment,
            "loss": {"name": "cross_entropy"},
            "optimizer": {"name": "adamw", "lr": 1e-3},
            "schedule": {"name": "constant"},
            "train": {"epochs": 1, "batch_size": 8, "image_size": 64},
        }
    )


DOCUMENT = AugmentConfig(name="document", rotate_degrees=180.0, policy="document")


def test_each_row_is_an_image_and_its_versions() -> None:
    block = training_block(IMAGES, configuration(DOCUMENT), seed=0, draws=3)
    assert block.title == "document"
    assert block.captions == ("original", "1", "2", "3")
    assert len(block.rows) == 2
    for row in block.rows:
        assert {image.shape for image in row} == {(64, 64, 3)}
        assert len({image.tobytes() for image in row}) == 4


def test_the_seed_decides_the_versions() -> None:
    one, same, other = (
        training_block(IMAGES, configuration(DOCUMENT), seed=seed, draws=2) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(np.array(one.rows), np.array(same.rows))
    assert (np.array(one.rows)[:, 1:] != np.array(other.rows)[:, 1:]).any()


def test_without_a_policy_every_version_is_the_original() -> None:
    none = configuration(AugmentConfig(name="none", affine=0.0))
    for row in training_block(IMAGES, none, seed=0, draws=2).rows:
        np.testing.assert_array_equal(np.stack(row[1:]), np.stack([row[0]] * 2))


def test_images_are_prepared_as_in_a_run() -> None:
    none = AugmentConfig(name="none", affine=0.0)
    block = training_block(
        IMAGES, configuration(none, grey=True, resize="letterbox", fill=9), seed=0, draws=1
    )
    page = block.rows[0][0]
    assert (page == page[:, :, :1]).all()
    assert (page[:, :6] == 9).all()
    assert block.note == "preprocess.grey=True preprocess.resize=letterbox preprocess.fill=9"


@pytest.mark.parametrize("seed", [0, 3])
def test_a_replay_shows_what_a_run_validates(seed: int) -> None:
    from trainables.augmented import augment_images
    from trainables.images import fit_square
    from trainables.seeds import derive_seed

    plain = configuration(AugmentConfig(name="none", affine=0.0))
    block = replay_block(IMAGES, plain, DOCUMENT, seed)
    assert (block.title, block.captions) == ("document", ("original", "validated"))
    expected = augment_images(
        np.stack([fit_square(image, 64) for image in IMAGES.values()]),
        np.array([image.shape[1] / image.shape[0] for image in IMAGES.values()], np.float32),
        DOCUMENT,
        PreprocessConfig(),
        64,
        [derive_seed("replay", seed, name) for name in IMAGES],
    )
    np.testing.assert_array_equal(np.stack([row[1] for row in block.rows]), expected)
