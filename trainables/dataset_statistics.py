"""Mean and standard deviation of a data set's own pixels, a channel."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from search_spaces.config import PreprocessConfig
from trainables.image_cache import ImageSource
from trainables.recipe import Normalisation, three
from trainables.run_data import RunData

# The error of a mean over so many images is far below what a network notices.
MOST_IMAGES = 2000
BATCH = 64


def dataset_normalisation(data: RunData, preprocess: PreprocessConfig) -> Normalisation | None:
    """Of the labelled images, where `normalize: dataset` asks for it, else None.

    One for the whole run, not one a fold: no label enters it, and the fold models of a member stay
    alike. Padding does not count."""
    if preprocess.normalize == "model":
        return None
    return _of_source(data.cache_of(preprocess), data.n_train)


@lru_cache(maxsize=4)
def _of_source(source: ImageSource, n_train: int) -> Normalisation:
    rows = np.linspace(0, n_train - 1, min(n_train, MOST_IMAGES)).round().astype(np.intp)
    return channel_statistics(source, rows)


def channel_statistics(source: ImageSource, rows: np.ndarray) -> Normalisation:
    """Over all pixels of the images `rows`, in [0, 1]; a flat channel has the deviation of half a
    grey level."""
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for start in range(0, len(rows), BATCH):
        pixels = source[rows[start : start + BATCH]].reshape(-1, 3).astype(np.float64) / 255.0
        total += pixels.sum(axis=0)
        squares += np.square(pixels).sum(axis=0)
        count += len(pixels)
    mean = total / count
    variance = np.maximum(squares / count - mean**2, (0.5 / 255.0) ** 2)
    return Normalisation(three(mean.round(6)), three(np.sqrt(variance).round(6)))
