from __future__ import annotations

from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as v2

from search_spaces.config import AugmentConfig, PreprocessConfig
from tests.trainables.pictures import squares
from trainables.cpu_augment import finish, finish_bytes, render, render_job, warp
from trainables.draws import Draws, draw_batch, plain_draws
from trainables.mixing import draw_mix, mix_images

DRAWS = 2500
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SQUASH = PreprocessConfig()
EVERYTHING = AugmentConfig(
    name="made",
    horizontal_flip=0.5,
    quarter_turns=0.3,
    rotate_degrees=30.0,
    affine=0.5,
    crop_min=0.4,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    erase=0.5,
    mixup=0.5,
    cutmix=0.5,
)


def _batch(n: int = 9, side: int = 40, size: int = 32) -> tuple[np.ndarray, Draws]:
    draws = draw_batch(EVERYTHING, SQUASH, np.ones(n, np.float32), size, np.random.default_rng(0))
    return squares(n, side), draws


def test_geometry_then_finish_is_both_in_one_pass() -> None:
    source, draws = _batch()
    at_once = render(source, draws.moved_only(), 32, MEAN, STD)
    moved = warp(source, draws, 32)
    assert moved.dtype == np.uint8
    in_two = finish(moved, draws.moved_only(), MEAN, STD)
    assert np.abs(at_once - in_two).max() <= 0.51 / 255 / min(STD) + 1e-5


def test_bytes_are_finished_as_floats_are() -> None:
    source, draws = _batch()
    moved = warp(source, draws, 32)
    floats = finish(moved, draws, MEAN, STD)
    values = finish_bytes(moved, draws, MEAN)
    again = (values / 255.0 - np.array(MEAN)) / np.array(STD)
    assert np.abs(again - floats).max() <= 0.51 / 255 / min(STD) + 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_a_mixed_batch_is_the_mix_of_the_batch(seed: int) -> None:
    source, draws = _batch()
    mix = draw_mix(EVERYTHING, 9, 32, np.random.default_rng(seed))
    assert mix is not None
    expected = mix_images(render(source, draws, 32, MEAN, STD), mix)
    np.testing.assert_allclose(render(source, draws, 32, MEAN, STD, mix=mix), expected, atol=1e-5)


def test_parts_of_a_job_make_what_the_whole_makes() -> None:
    source, draws = _batch()
    mix = draw_mix(EVERYTHING, 9, 32, np.random.default_rng(1))
    out = np.full((9, 32, 32, 3), np.nan, np.float32)
    job = render_job(source, draws, MEAN, STD, 0, out, mix=mix)
    for start in reversed(range(job.size)):
        job.run(start, start + 1)
    assert np.array_equal(out, render(source, draws, 32, MEAN, STD, mix=mix))


def test_rows_choose_among_squares_that_may_only_be_read(tmp_path: Path) -> None:
    source, draws = _batch()
    np.save(tmp_path / "squares.npy", source)
    mapped = np.load(tmp_path / "squares.npy", mmap_mode="r")
    rows = np.array([8, 0, 3, 3, 1, 2, 7, 6, 5])
    expected = render(source[rows], draws, 32, MEAN, STD)
    assert np.array_equal(render(mapped, draws, 32, MEAN, STD, rows=rows), expected)


def test_the_output_is_a_channels_last_tensor() -> None:
    source, draws = _batch()
    tensor = torch.from_numpy(render(source, draws, 32, MEAN, STD)).permute(0, 3, 1, 2)
    assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_no_images_are_no_images() -> None:
    draws = plain_draws(SQUASH, np.ones(0, np.float32))
    assert render(squares(1, 16), draws, 16, MEAN, STD, rows=np.zeros(0, np.int64)).shape[0] == 0


def test_wrong_arguments_are_told() -> None:
    source, draws = _batch()
    with pytest.raises(ValueError, match=r"expected \(n, side, side, 3\)"):
        render(source[:, :8], draws, 32, MEAN, STD)
    with pytest.raises(ValueError, match="expected uint8"):
        render(source.astype(np.float32), draws, 32, MEAN, STD)
    with pytest.raises(ValueError, match="9 draws for 9 rows of 9 squares"):
        render(source, draws, 32, MEAN, STD, rows=np.arange(1, 10))
    with pytest.raises(ValueError, match="9 draws for 4 rows"):
        render(source[:4], draws, 32, MEAN, STD)
    with pytest.raises(ValueError, match="C-contiguous"):
        render(source, draws, 32, MEAN, STD, out=np.empty((9, 3, 32, 32), np.float32))
    mix = draw_mix(EVERYTHING, 8, 32, np.random.default_rng(0))
    with pytest.raises(ValueError, match="a mix of 8 images for 9 draws"):
        render(source, draws, 32, MEAN, STD, mix=mix)


# --- equal in distribution: means and spread of pixels over many draws -------------------------


def _ours(augment: AugmentConfig, image: np.ndarray, size: int, n: int) -> np.ndarray:
    draws = draw_batch(augment, SQUASH, np.ones(n, np.float32), size, np.random.default_rng(0))
    rows = np.zeros(n, np.int64)
    return render(image[None], draws, size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), rows=rows)


def _alike(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    assert np.abs(ours.mean(0) - theirs.mean(0)).mean() < tolerance
    assert np.abs(ours.std(0) - theirs.std(0)).mean() < tolerance
    assert abs(ours.mean() - theirs.mean()) < tolerance / 4


def test_crops_and_flips_look_like_torchvisions() -> None:
    image = squares(1, 64)[0]
    theirs = v2.Compose(
        [
            v2.RandomResizedCrop(32, scale=(0.4, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    torch.manual_seed(0)
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)
    made = torch.stack([theirs(tensor) for _ in range(DRAWS)]).permute(0, 2, 3, 1).numpy()
    _alike(
        _ours(AugmentConfig(name="made", crop_min=0.4, horizontal_flip=0.5), image, 32, DRAWS),
        made,
        0.02,
    )


def test_colours_look_like_torchvisions() -> None:
    image = squares(2, 32)[1]
    # In floats: on bytes it cuts off fractions after each of the three.
    theirs = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.ColorJitter(0.3, 0.3, 0.3)])
    torch.manual_seed(0)
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)
    made = torch.stack([theirs(tensor) for _ in range(DRAWS)]).permute(0, 2, 3, 1).numpy()
    augment = AugmentConfig(name="made", brightness=0.3, contrast=0.3, saturation=0.3)
    _alike(_ours(augment, image, 32, DRAWS), made, 0.02)


def test_rotations_look_like_albumentations() -> None:
    image = squares(1, 48)[0]
    library = albumentations.Affine(
        rotate=(-40, 40),
        translate_percent={"x": (-0.1, 0.1), "y": (-0.1, 0.1)},
        scale=(0.8, 1.2),
        keep_ratio=True,
        p=1.0,
    )
    library.set_random_seed(0)
    made = np.stack([library(image=image)["image"] for _ in range(DRAWS)]) / 255.0
    augment = AugmentConfig(name="made", rotate_degrees=40.0, shift=0.1, zoom=0.2)
    _alike(_ours(augment, image, 48, DRAWS), made.astype(np.float32), 0.02)
