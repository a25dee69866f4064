"""What a model is shown in evaluation: the plain view, TTA, and the replay of a random policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.config import AugmentConfig, Configuration, PreprocessConfig, TtaConfig
from trainables import decoded_source
from trainables.decoded_source import DecodedSource
from trainables.image_cache import ImageCache
from trainables.views import Shown, cached, parts, replayed, tta_views, view_batches

SIZE = 16
IDS = [f"image_{number}" for number in range(10)]
NOISY = AugmentConfig(
    name="noisy", horizontal_flip=0.5, rotate_degrees=40, brightness=0.4, erase=0.5
)


def configuration(**groups: object) -> Configuration:
    return Configuration.model_validate(
        {
            "backbone": {"name": "test_resnet"},
            "augment": NOISY.model_dump(),
            "loss": {"name": "cross_entropy"},
            "optimizer": {"name": "sgd", "lr": 0.1},
            "schedule": {"name": "constant"},
            "train": {"epochs": 1, "batch_size": 4, "image_size": SIZE},
            **groups,
        }
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageCache:
    pixels = np.random.default_rng(0).integers(0, 255, (10, SIZE, SIZE, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("cache") / "cache.npy"
    np.save(path, pixels)
    return ImageCache(path)


def shown(source: ImageCache, rows: object = None, **preprocess: object) -> Shown:
    chosen = np.arange(10) if rows is None else np.asarray(rows)
    names = [IDS[row] for row in chosen]
    return cached(source, chosen, names, PreprocessConfig(**preprocess))


def every_view(
    what: Shown, tta: TtaConfig, batch_size: int = 4, seed: int = 3, **groups: object
) -> np.ndarray:
    """(V, N, size, size, 3)."""
    batches = view_batches(what, configuration(**groups), tta, seed=seed, batch_size=batch_size)
    return np.concatenate([np.stack(list(views)) for views in batches], axis=1)


def test_the_plain_view_is_the_cached_image(source: ImageCache) -> None:
    found = every_view(shown(source, [7, 0, 3]), TtaConfig())
    assert found.shape == (1, 3, SIZE, SIZE, 3)
    np.testing.assert_array_equal(found[0], source[[7, 0, 3]])


def test_flips_and_quarter_turns_are_the_eight_symmetries_of_the_square(
    source: ImageCache,
) -> None:
    tta = TtaConfig(horizontal_flip=True, quarter_turns=True)
    found = every_view(shown(source, [2]), tta)[:, 0]
    image = source[[2]][0]
    expected = {np.rot90(one, k).tobytes() for one in (image, image[:, ::-1]) for k in range(4)}
    assert {view.tobytes() for view in found} == expected
    assert len(expected) == tta.views == 8
    np.testing.assert_array_equal(found[0], image)


def test_a_scale_shows_the_middle(source: ImageCache) -> None:
    """At twice the size the view is made of the middle quarter of the area alone."""
    pixels = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    pixels[:, SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4] = 200
    what = Shown(pixels, np.arange(1), np.ones(1, np.float32), ["a"], PreprocessConfig())
    whole, middle = every_view(what, TtaConfig(scales=(1.0, 2.0)))[:, 0]
    np.testing.assert_array_equal(whole, pixels[0])
    assert (middle[1:-1, 1:-1] == 200).all()


@given(
    flips=st.tuples(st.booleans(), st.booleans()),
    turns=st.booleans(),
    scales=st.lists(st.sampled_from([0.8, 1.0, 1.2]), min_size=1, max_size=3, unique=True),
)
def test_there_are_as_many_views_as_the_configuration_says(
    flips: tuple[bool, bool], turns: bool, scales: list[float]
) -> None:
    tta = TtaConfig(
        horizontal_flip=flips[0], vertical_flip=flips[1], quarter_turns=turns, scales=tuple(scales)
    )
    assert len(set(tta_views(tta))) == tta.views


def test_draws_of_the_training_policy_depend_on_seed_and_id_only(source: ImageCache) -> None:
    tta = TtaConfig(training=2)
    found = every_view(shown(source), tta)
    assert found.shape[0] == tta.views == 3
    assert (found[1] != found[2]).any()
    one_by_one = every_view(shown(source, np.arange(10)[::-1]), tta, batch_size=1)
    np.testing.assert_array_equal(one_by_one[:, ::-1], found)
    other = every_view(shown(source), tta, seed=4)
    np.testing.assert_array_equal(other[0], found[0])
    assert (other[1] != found[1]).any()


def test_a_replayed_policy_depends_on_seed_and_id_only(source: ImageCache) -> None:
    whole = replayed(shown(source), NOISY, SIZE, seed=1)
    part = replayed(shown(source, [5, 2]), NOISY, SIZE, seed=1, batch_size=1)
    np.testing.assert_array_equal(part.squares(slice(0, 2)), whole.squares(slice(0, 10))[[5, 2]])
    other = replayed(shown(source), NOISY, SIZE, seed=2)
    assert (other.squares(slice(0, 10)) != whole.squares(slice(0, 10))).any()


def test_a_replayed_image_is_shown_as_it_is(source: ImageCache) -> None:
    what = replayed(shown(source, resize="letterbox", fill=255), NOISY, SIZE, seed=1)
    found = every_view(what, TtaConfig())
    np.testing.assert_array_equal(found[0], what.squares(slice(0, 10)))
    assert what.preprocess.resize == "squash"  # it is square by now


def test_letterboxed_views_keep_the_ratio_of_the_sides(tmp_path: Path) -> None:
    """Twice as wide as high: the upper and lower quarter are padding."""
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    preprocess = PreprocessConfig(resize="letterbox", fill=7)
    what = Shown(white, np.arange(1), np.array([2.0], np.float32), ["a"], preprocess)
    found = every_view(what, TtaConfig(quarter_turns=True))[:, 0]
    quarter = SIZE // 4
    assert (found[0][:quarter] == 7).all()
    assert (found[0][-quarter:] == 7).all()
    assert (found[0][quarter + 1 : -quarter - 1] == 255).all()
    assert (found[1][:, :quarter] == 7).all()  # turned, so is the padding


@given(n=st.integers(0, 50), size=st.integers(1, 20))
def test_parts_cover_everything_in_order(n: int, size: int) -> None:
    found = [row for part in parts(n, size) for row in range(n)[part]]
    assert found == list(range(n))


@pytest.mark.parametrize(("resize", "reads"), [("squash", 0), ("letterbox", 3)])
def test_ratios_are_read_only_where_something_depends_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: Any, reads: int
) -> None:
    paths = [str(tmp_path / f"{row}.png") for row in range(3)]
    for path in paths:
        cv2.imwrite(path, np.zeros((10, 20, 3), np.uint8))
    read: list[str] = []

    def upright_size(path: str) -> tuple[int, int]:
        read.append(path)
        return 20, 10

    monkeypatch.setattr(decoded_source, "upright_size", upright_size)
    source = DecodedSource(paths, 16)
    cached(source, np.arange(3), ["a", "b", "c"], PreprocessConfig(resize=resize))
    assert len(read) == reads
