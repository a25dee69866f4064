"""What a fold run may see: its training rows to learn from, and nothing of its validation rows."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TinyImages
from tests.trainables.tiny_run import TinyRun, changed, prepare_tiny_run
from trainables.image_cache import ImageCache
from trainables.loop import FoldRun, run_fold
from trainables.run_data import RunData


class RecordingCache(ImageCache):
    """The same pixels; writes down which rows were read in which phase. Nobody gets at the mapped
    pixels themselves."""

    pixels = None  # type: ignore[assignment]

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.phase = "outside"
        self.reads: list[tuple[str, int]] = []

    def __getitem__(self, rows: Any) -> Any:
        self.reads += [(self.phase, int(row)) for row in np.atleast_1d(rows)]
        return super().__getitem__(rows)

    def take(self, rows: Any, out: Any) -> Any:
        self.reads += [(self.phase, int(row)) for row in np.atleast_1d(rows)]
        return super().take(rows, out)

    def read_in(self, phase: str) -> Counter[int]:
        return Counter(row for where, row in self.reads if where == phase)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training epoch of any fold run says so to the recording cache."""
    real = FoldRun._train_epoch

    def train_epoch(run: FoldRun) -> float:
        cache = run.data.cache
        assert isinstance(cache, RecordingCache)
        cache.phase = f"training {run.epoch}"
        try:
            return real(run)
        finally:
            cache.phase = "outside"

    monkeypatch.setattr(FoldRun, "_train_epoch", train_epoch)


def recording(data: RunData) -> tuple[RunData, RecordingCache]:
    cache = RecordingCache(data.cache.path)
    return replace(data, cache=cache), cache


@pytest.fixture(scope="module")
def grouped_run(
    tmp_path_factory: pytest.TempPathFactory, own_cache: Path, run_images: TinyImages
) -> TinyRun:
    """24 images of 3 classes in 12 groups of two."""
    storage = tmp_path_factory.mktemp("grouped")
    table = storage / "grouped.csv"
    rows = zip(run_images.ids, run_images.labels, strict=True)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("id", "label", "patient"),
                *((name, label, f"p{row // 2}") for row, (name, label) in enumerate(rows)),
            ]
        )
    return prepare_tiny_run(
        storage,
        run_images,
        f"data.path={table}",
        "data.group_column=patient",
        "folds=grouped",
        "folds.k=3",
    )


@pytest.mark.parametrize("fold", range(3))
@pytest.mark.usefixtures("recorded")
def test_training_reads_every_training_row_once_an_epoch_and_no_other(
    tiny_run: TinyRun, fold: int
) -> None:
    data, cache = recording(tiny_run.data)
    tiny_run.finish(tiny_run.task(fold), data)
    expected = Counter(data.folds.train_rows(fold).tolist())
    held_out = set(data.folds.validation_rows(fold).tolist())
    assert len(held_out) == 8
    assert len(expected) == 16
    for epoch in (1, 2):
        assert cache.read_in(f"training {epoch}") == expected
    # And nothing was predicted but the rows held out and the test images.
    assert set(cache.read_in("outside")) == held_out | set(range(24, 30))


@pytest.mark.parametrize("fold", range(3))
@pytest.mark.usefixtures("recorded")
def test_no_row_of_a_group_that_is_held_out_is_read_in_training(
    grouped_run: TinyRun, tmp_path: Path, fold: int
) -> None:
    run = grouped_run.copy(tmp_path / "run")
    data, cache = recording(run.data)
    run.finish(run.task(fold), data)
    groups = data.folds.groups
    assert groups is not None
    assert len(set(groups)) == 12
    held_out = {groups[row] for row in data.folds.validation_rows(fold)}
    read = {groups[row] for epoch in (1, 2) for row in cache.read_in(f"training {epoch}")}
    assert held_out
    assert not held_out & read
    assert held_out | read == set(groups)
    stored = run.oof(run.task(fold))
    assert {groups[data.folds.ids.index(name)] for name in stored.ids} == held_out


@pytest.mark.usefixtures("recorded")
def test_a_fold_run_that_goes_on_reads_its_training_rows_only(tiny_run: TinyRun) -> None:
    data, cache = recording(tiny_run.data)
    task = tiny_run.task(configuration=changed(tiny_run.configuration, train={"epochs": 3}))
    first = run_fold(task, data)
    next(first)
    first.close()  # type: ignore[attr-defined]
    again, cache_again = recording(tiny_run.data)
    tiny_run.finish(task, again)
    expected = Counter(data.folds.train_rows(0).tolist())
    assert cache.read_in("training 1") == expected
    assert [cache_again.read_in(f"training {epoch}") == expected for epoch in (1, 2, 3)] == [
        False,
        True,
        True,
    ]


def test_labels_of_held_out_rows_change_neither_weights_nor_probabilities(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    tiny_run.finish()
    other = tiny_run.copy(tmp_path / "other")
    folds = tiny_run.data.folds
    rows = folds.validation_rows(0)
    labels = folds.labels.copy()
    labels[rows] = (labels[rows] + 1) % 3
    other.finish(data=replace(other.data, folds=replace(folds, labels=labels)))
    assert other.files()["weights"] == tiny_run.files()["weights"]
    np.testing.assert_array_equal(other.oof().proba, tiny_run.oof().proba)
    assert (other.oof().labels != tiny_run.oof().labels).all()


def test_labels_of_training_rows_do_change_the_weights(tiny_run: TinyRun, tmp_path: Path) -> None:
    """So that the canary above is known to sing."""
    tiny_run.finish()
    other = tiny_run.copy(tmp_path / "other")
    folds = tiny_run.data.folds
    labels = folds.labels.copy()
    row = folds.train_rows(0)[0]
    labels[row] = (labels[row] + 1) % 3
    other.finish(data=replace(other.data, folds=replace(folds, labels=labels)))
    assert other.files()["weights"] != tiny_run.files()["weights"]


def test_pixels_of_held_out_rows_do_not_reach_the_weights(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    """Not through the statistics of batch norm either."""
    tiny_run.finish()
    other = tiny_run.copy(tmp_path / "other")
    pixels = np.load(tiny_run.data.cache.path)
    rows = tiny_run.data.folds.validation_rows(0)
    pixels[rows] = np.random.default_rng(0).integers(0, 255, pixels[rows].shape, dtype=np.uint8)
    np.save(tmp_path / "noise.npy", pixels)
    other.finish(data=replace(other.data, cache=ImageCache(tmp_path / "noise.npy")))
    assert other.files()["weights"] == tiny_run.files()["weights"]
    assert (other.oof().proba != tiny_run.oof().proba).any()
    np.testing.assert_array_equal(other.test().proba, tiny_run.test().proba)
