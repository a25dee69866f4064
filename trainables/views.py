"""What a model is shown of an image in evaluation: the plain view, and those of TTA.

Every view is fixed by the configuration, the run's seed and the image's id: it is the same in every
epoch, every fold run, and in a bundle.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces.config import AugmentConfig, Configuration, PreprocessConfig, TtaConfig
from trainables.augmented import augment_images
from trainables.cpu_augment import warp
from trainables.draws import View, plain_draws
from trainables.image_cache import ImageSource, aspects_of
from trainables.images import Pixels
from trainables.seeds import derive_seed

PLAIN = TtaConfig()


@dataclass(frozen=True)
class Shown:
    """N images as they are evaluated, before any view.

    squares: (N, S, S, 3) uint8, an array or a cache of which `rows` are taken; aspects: (N,)
    float32, see `aspects_of`; ids: N names; preprocess: how squares become inputs."""

    source: ImageSource | Pixels
    rows: npt.NDArray[np.intp]
    aspects: npt.NDArray[np.float32]
    ids: Sequence[str]
    preprocess: PreprocessConfig

    def __len__(self) -> int:
        return len(self.rows)

    def squares(self, part: slice) -> Pixels:
        return np.asarray(self.source[self.rows[part]])


def cached(
    source: ImageSource, rows: npt.ArrayLike, ids: Sequence[str], preprocess: PreprocessConfig
) -> Shown:
    """Images as they lie in the cache. `ids`: one a row."""
    chosen = np.asarray(rows, np.intp)
    return Shown(source, chosen, aspects_of(source, chosen, preprocess), ids, preprocess)


def replayed(
    shown: Shown, replay: AugmentConfig, image_size: int, seed: int, batch_size: int = 64
) -> Shown:
    """`shown` after the random policy `replay`, fixed by (seed, id). Held in memory, (N,
    image_size, image_size, 3) uint8."""
    squares = np.empty((len(shown), image_size, image_size, 3), np.uint8)
    for part in parts(len(shown), batch_size):
        squares[part] = augment_images(
            shown.squares(part),
            shown.aspects[part],
            replay,
            shown.preprocess,
            image_size,
            [derive_seed("replay", seed, name) for name in shown.ids[part]],
        )
    squashed = shown.preprocess.model_copy(update={"resize": "squash"})
    rows = np.arange(len(shown))
    return Shown(squares, rows, np.ones(len(shown), np.float32), shown.ids, squashed)


def tta_views(tta: TtaConfig) -> tuple[View, ...]:
    """Every combination of flips, turns and scales, the plain view first."""
    return tuple(
        View(horizontal_flip=across, vertical_flip=down, quarter_turns=turns, scale=scale)
        for scale, turns, down, across in itertools.product(
            tta.scales,
            range(4 if tta.quarter_turns else 1),
            (False, True)[: 1 + tta.vertical_flip],
            (False, True)[: 1 + tta.horizontal_flip],
        )
    )


def view_batches(
    shown: Shown, configuration: Configuration, tta: TtaConfig, *, seed: int, batch_size: int
) -> Iterator[Iterator[Pixels]]:
    """Batches of images in order; of each batch its views, (n, size, size, 3) uint8 each."""
    for part in parts(len(shown), batch_size):
        yield _views(shown, part, configuration, tta, seed)


def _views(
    shown: Shown, part: slice, configuration: Configuration, tta: TtaConfig, seed: int
) -> Iterator[Pixels]:
    squares, aspects = shown.squares(part), shown.aspects[part]
    size, preprocess = configuration.train.image_size, shown.preprocess
    for view in tta_views(tta):
        if view == View() and preprocess.resize == "squash" and squares.shape[1] == size:
            yield squares
            continue
        draws = plain_draws(preprocess, aspects, view)
        out = np.empty((len(squares), size, size, 3), np.uint8)
        yield warp(squares, draws, size, preprocess.fill, out)
    for draw in range(tta.training):
        seeds = [derive_seed("tta", seed, name, draw) for name in shown.ids[part]]
        yield augment_images(squares, aspects, configuration.augment, preprocess, size, seeds)


def parts(n: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size`."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
