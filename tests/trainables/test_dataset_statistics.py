from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search_spaces.config import PreprocessConfig
from tests.trainables.tiny_run import TinyRun, changed
from trainables import dataset_statistics
from trainables.dataset_statistics import channel_statistics, dataset_normalisation
from trainables.weights import read_recipe


def test_mean_and_deviation_are_those_of_all_pixels(tiny_run: TinyRun) -> None:
    rows = np.arange(24)
    found = channel_statistics(tiny_run.data.cache, rows)
    pixels = tiny_run.data.cache[rows].reshape(-1, 3) / 255.0
    np.testing.assert_allclose(found.mean, pixels.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.std, pixels.std(axis=0), atol=1e-6)


def test_a_flat_channel_does_not_divide_by_nothing() -> None:
    flat = np.full((3, 4, 4, 3), 128, np.uint8)
    found = channel_statistics(flat, np.arange(3))  # type: ignore[arg-type]
    assert min(found.std) > 1e-3


def test_they_are_taken_only_where_asked_and_without_test_images(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_statistics, "MOST_IMAGES", 24)
    assert dataset_normalisation(tiny_run.data, PreprocessConfig()) is None
    asked = PreprocessConfig(normalize="dataset")
    found = dataset_normalisation(tiny_run.data, asked)
    assert found == channel_statistics(tiny_run.data.cache, np.arange(24))
    assert dataset_normalisation(replace(tiny_run.data, test=None), asked) == found


def test_every_fold_stores_the_same_normalisation_with_its_weights(tiny_run: TinyRun) -> None:
    chosen = changed(
        tiny_run.configuration, preprocess={"normalize": "dataset"}, train={"epochs": 1}
    )
    stored = []
    for fold in (0, 1):
        task = tiny_run.task(fold, chosen)
        tiny_run.finish(task)
        stored.append(read_recipe(tiny_run.paths.weights(task.config_id, fold)).normalisation)
    assert stored[0] == stored[1] == dataset_normalisation(tiny_run.data, chosen.preprocess)
