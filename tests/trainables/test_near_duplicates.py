from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.digits import write_digits
from trainables.image_cache import ImageCache
from trainables.images import Pixels, decode_image
from trainables.near_duplicates import (
    MAX_DIFFERENCE,
    MAX_DISTANCE,
    NearDuplicates,
    make_thumbnails,
    near_duplicates,
)

SIDE = 96


@pytest.fixture(scope="module")
def photos() -> list[Pixels]:
    """Different photos: tiles that do not overlap of the two that scikit-learn brings along,
    without those of plain sky or blurred background."""
    from sklearn.datasets import load_sample_images

    tiles = [
        np.ascontiguousarray(image[y : y + 105, x : x + 105])
        for image in load_sample_images().images
        for y in range(0, image.shape[0] - 105, 105)
        for x in range(0, image.shape[1] - 105, 105)
    ]
    return [tile for tile in tiles if tile.std(axis=(0, 1)).min() > 20]


def write(path: Path, image: Pixels, quality: int | None = None) -> str:
    """`image` in RGB as a JPEG of that quality, or as PNG."""
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    path = path.with_suffix(".png" if quality is None else ".jpg")
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
    path.write_bytes(encoded.tobytes())
    return str(path)


def cached(paths: list[str], directory: Path, side: int = SIDE) -> ImageCache:
    return ImageCache.open(paths, side, directory / "cache", "f00d")


def pairs(found: NearDuplicates) -> list[tuple[int, int]]:
    return sorted(zip(found.pair_a.tolist(), found.pair_b.tolist(), strict=True))


def shifted(image: Pixels, levels: int) -> Pixels:
    return np.clip(image.astype(int) + levels, 0, 255).astype(np.uint8)


def shrunk(image: Pixels) -> Pixels:
    return np.asarray(cv2.resize(image, (94, 97), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def test_different_photos_are_not_near_duplicates(photos: list[Pixels], tmp_path: Path) -> None:
    paths = [write(tmp_path / str(n), photo, 90) for n, photo in enumerate(photos)]
    found = near_duplicates(cached(paths, tmp_path), np.zeros(len(photos), int))
    assert len(photos) >= 20
    assert pairs(found) == []
    assert found.found == 0
    assert found.flat.tolist() == []


def test_re_encoded_resized_and_brightened_copies_are_found(
    photos: list[Pixels], tmp_path: Path
) -> None:
    paths = [write(tmp_path / f"photo {n}", photo, 95) for n, photo in enumerate(photos)]
    copies = [
        write(tmp_path / "same", photos[0], 95),
        write(tmp_path / "png", photos[1]),
        write(tmp_path / "poor", photos[2], 40),
        write(tmp_path / "small", shrunk(photos[3]), 80),
        write(tmp_path / "bright", shifted(photos[4], 25), 80),
        write(tmp_path / "dark", shifted(shrunk(photos[5]), -20), 80),
    ]
    labels = np.arange(len(paths) + len(copies)) % len(paths)
    labels[-1] = 17
    found = near_duplicates(cached(paths + copies, tmp_path), labels)
    assert pairs(found) == [(n, len(paths) + n) for n in range(6)]
    assert (found.pair_a[0], found.pair_b[0]) == (
        5,
        len(paths) + 5,
    )  # two labels: first
    assert found.same_label.tolist() == [False, True, True, True, True, True]
    assert found.distance[found.pair_a == 0] == 0
    assert found.distance.max() <= MAX_DISTANCE
    assert found.found == 6


def test_handwritten_digits_do_not_match_each_other_in_floods(tmp_path: Path) -> None:
    """1,500 drawings of ten things on the same plain background: 1.1 million pairs."""
    train = write_digits(tmp_path / "digits") / "train"
    paths = sorted(str(path) for path in train.glob("*.png"))
    digits = cached(paths, tmp_path, side=32)
    rows = np.arange(len(paths))
    assert near_duplicates(digits, rows).found <= 2
    copies = [write(tmp_path / f"copy {n}", decode_image(paths[n]), 90) for n in range(30)]
    both = near_duplicates(cached(paths + copies, tmp_path, side=32), np.arange(len(paths) + 30))
    assert {(n, len(paths) + n) for n in range(30)} <= set(pairs(both))
    assert both.found <= 34


def page(rng: np.random.Generator, side: int = 300) -> Pixels:
    """Lines of words on white paper."""
    paper = np.full((side, side, 3), 255, np.uint8)
    for y in range(30, side - 30, 14):
        x = 25
        while x < side - 60 and rng.random() < 0.93:
            width = int(rng.integers(8, 40))
            paper[y : y + 7, x : x + width] = 30
            x += width + 6
    return paper


def test_pages_of_text_match_only_their_own_copies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pages = [page(rng) for _ in range(60)]
    paths = [write(tmp_path / f"page {n}", image) for n, image in enumerate(pages)]
    copies = [write(tmp_path / f"copy {n}", image, 50) for n, image in enumerate(pages[:20])]
    found = near_duplicates(cached(paths + copies, tmp_path), np.arange(80))
    assert pairs(found) == [(n, 60 + n) for n in range(20)]


def test_blank_pages_are_named_and_not_paired() -> None:
    rng = np.random.default_rng(0)
    blank = rng.integers(250, 256, (5, 64, 64, 3), dtype=np.uint8)
    one = page(rng, 64 * 4)[::4, ::4]
    found = near_duplicates(np.stack([blank[0], one, *blank[1:], one]), np.zeros(7, int))
    assert found.flat.tolist() == [0, 2, 3, 4, 5]
    assert pairs(found) == [(1, 6)]


def test_the_same_drawing_in_another_colour_is_another_picture(photos: list[Pixels]) -> None:
    grey = cv2.cvtColor(photos[0], cv2.COLOR_RGB2GRAY).astype(float) / 255
    red = (grey[..., None] * (230, 40, 40)).astype(np.uint8)
    blue = (grey[..., None] * (40, 40, 230)).astype(np.uint8)
    assert near_duplicates(np.stack([red, blue]), np.arange(2)).found == 0
    assert near_duplicates(np.stack([red, red]), np.arange(2)).found == 1


def brute_force(images: Pixels) -> set[tuple[int, int]]:
    """The definition, pair by pair."""
    of = make_thumbnails(images, len(images))
    found = set()
    for a in range(len(images)):
        for b in range(a + 1, len(images)):
            bits = bin(int(of.hash[a]) ^ int(of.hash[b])).count("1")
            grey = [of.grey[row].astype(float) for row in (a, b)]
            first, second = ((x - x.mean()) / x.std() for x in grey)
            stds = sorted(x.std() for x in grey)
            if (
                bits <= MAX_DISTANCE
                and np.abs(first - second).mean() <= MAX_DIFFERENCE
                and stds[1] <= 1.5 * stds[0]
                and np.abs(of.colour[a] - of.colour[b]).max() <= 12
            ):
                found.add((a, b))
    return found


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_exactly_the_pairs_of_the_definition_are_found_in_any_order_of_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    images = np.stack(
        [
            shifted(cv2.resize(base[n], (24, 24)), int(rng.integers(-20, 20)))
            for n in rng.integers(6, size=15)
        ]
    )
    images[::2] = np.clip(images[::2] + rng.normal(0, 15, images[::2].shape), 0, 255)
    labels = rng.integers(2, size=15)
    found = near_duplicates(images, labels)
    assert set(pairs(found)) == brute_force(images)
    assert (found.pair_a < found.pair_b).all()
    assert (found.same_label == (labels[found.pair_a] == labels[found.pair_b])).all()
    order = rng.permutation(15)
    again = near_duplicates(images[order], labels[order])
    there = {tuple(sorted((order[a], order[b]))) for a, b in pairs(again)}
    assert there == set(pairs(found))


def test_of_too_many_pairs_those_with_two_labels_are_kept_and_all_are_counted() -> None:
    picture = page(np.random.default_rng(3), 64 * 4)[::4, ::4]
    images = np.repeat(picture[None], 80, axis=0)
    labels = np.zeros(80, int)
    labels[33] = 1
    found = near_duplicates(images, labels, max_pairs=79)
    assert found.found == 80 * 79 // 2
    assert len(found.pair_a) == 79
    assert not found.same_label.any()
    assert ((found.pair_a == 33) | (found.pair_b == 33)).all()


def test_progress_counts_every_image() -> None:
    seen: list[tuple[int, int]] = []
    images = np.zeros((100, 8, 8, 3), np.uint8)
    found = near_duplicates(images, np.zeros(100, int), progress=lambda *now: seen.append(now))
    assert seen == [(64, 100), (100, 100)]
    assert found.flat.tolist() == list(range(100))


def test_images_after_the_labelled_ones_are_left_out(photos: list[Pixels], tmp_path: Path) -> None:
    paths = [write(tmp_path / str(n), photos[n % 3]) for n in range(6)]
    found = near_duplicates(cached(paths, tmp_path), np.zeros(4, int))
    assert pairs(found) == [(0, 3)]


def test_no_images_have_no_pairs() -> None:
    found = near_duplicates(np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, int))
    assert pairs(found) == []
    assert found.same_label.dtype == bool


def test_other_shapes_and_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of at most 3 images, got \(4,\)"):
        near_duplicates(np.zeros((3, 8, 8, 3), np.uint8), np.zeros(4, int))
    with pytest.raises(ValueError, match=r"in uint8, got float64 \(3, 8, 8, 3\)"):
        near_duplicates(np.zeros((3, 8, 8, 3)), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"\(rows, height, width, 3\)"):
        near_duplicates(np.zeros((3, 8, 8, 1), np.uint8), np.zeros(3, int))
