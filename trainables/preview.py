"""What a random policy makes of a few images, as a block of a contact sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from search_spaces.config import AugmentConfig, Configuration, PreprocessConfig
from trainables.augmented import augment_images
from trainables.contact_sheet import Block, note_of
from trainables.images import Pixels, fit_square
from trainables.preprocess import preprocess_image
from trainables.seeds import derive_seed
from trainables.views import Shown, replayed

NO_CHANGE = AugmentConfig(name="none", affine=0.0)


def training_block(
    originals: Mapping[str, Pixels], configuration: Configuration, seed: int, draws: int
) -> Block:
    """Each of `originals` (id to uint8 RGB (H, W, 3), upright) as it is evaluated, then `draws`
    versions as training may see it, without mixing. The same `seed` gives the same versions."""
    augment, size = configuration.augment, configuration.train.image_size
    shown = _shown(originals, configuration, augment)
    columns = [_changed(shown, NO_CHANGE, size, [0] * len(shown))]
    for draw in range(draws):
        seeds = [derive_seed("preview", seed, name, draw) for name in shown.ids]
        columns.append(_changed(shown, augment, size, seeds))
    captions = ("original", *(str(draw + 1) for draw in range(draws)))
    return _block(augment, shown.preprocess, captions, columns)


def replay_block(
    originals: Mapping[str, Pixels], configuration: Configuration, replay: AugmentConfig, seed: int
) -> Block:
    """Each of `originals` as it is evaluated without `replay`, and as a run of this `seed`
    validates it with it. The ids decide, as in the run."""
    size = configuration.train.image_size
    shown = _shown(originals, configuration, replay)
    plain = _changed(shown, NO_CHANGE, size, [0] * len(shown))
    fixed = replayed(shown, replay, size, seed).squares(slice(None))
    return _block(replay, shown.preprocess, ("original", "validated"), [plain, fixed])


def _shown(
    originals: Mapping[str, Pixels], configuration: Configuration, augment: AugmentConfig
) -> Shown:
    """The images as a cache would hold them, larger where random crops enlarge them."""
    side = math.ceil(configuration.train.image_size / math.sqrt(augment.crop_min))
    preprocess = configuration.preprocess
    squares = [preprocess_image(fit_square(one, side), preprocess) for one in originals.values()]
    aspects = [one.shape[1] / one.shape[0] for one in originals.values()]
    return Shown(
        np.stack(squares),
        np.arange(len(squares)),
        np.array(aspects, np.float32),
        tuple(originals),
        preprocess,
    )


def _changed(shown: Shown, augment: AugmentConfig, size: int, seeds: list[int]) -> Pixels:
    squares = shown.squares(slice(None))
    return augment_images(squares, shown.aspects, augment, shown.preprocess, size, seeds)


def _block(
    augment: AugmentConfig,
    preprocess: PreprocessConfig,
    captions: tuple[str, ...],
    columns: list[Pixels],
) -> Block:
    rows = tuple(zip(*columns, strict=True))
    return Block(augment.name, note_of(augment, preprocess), captions, rows)
