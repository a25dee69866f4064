"""Batches from the decoded cache. A batch depends only on (seed, epoch, batch number): not on the
number of worker processes, not on what ran before. That is what makes resuming exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trainables.augment import TrainTransform, Transform
from trainables.backbone import Normalisation
from trainables.image_cache import ImageCache
from trainables.seeds import derive_seed


@dataclass(frozen=True)
class Batch:
    """`images`: (n, size, size, 3) uint8 RGB; `labels`: (n,) int64."""

    images: np.ndarray
    labels: np.ndarray


Place = tuple[int, int]


class TrainBatches(Dataset):
    """The shuffled, augmented batches of all epochs: item (epoch, number)."""

    def __init__(
        self,
        cache: ImageCache,
        rows: np.ndarray,
        labels: np.ndarray,
        transform: TrainTransform,
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        """`rows`: (N,) rows of the cache, `labels`: (N,) their classes."""
        self._cache = cache
        self._rows, self._labels = rows, labels
        self._transform = transform
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._batches: list[np.ndarray] = []

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(split_batches(self._rows, self._batch_size))

    def __getitem__(self, place: Place) -> Batch:
        epoch, number = place
        chosen = self._order(epoch)[number]
        self._transform.reseed(derive_seed("augment", self._seed, epoch, number))
        images = self._cache[self._rows[chosen]]
        augmented = np.stack([self._transform(image) for image in images])
        return Batch(augmented, self._labels[chosen].astype(np.int64))

    def _order(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch as indices into the rows; the last epoch asked for is kept."""
        if epoch != self._epoch:
            generator = np.random.default_rng(derive_seed("order", self._seed, epoch))
            order = generator.permutation(len(self._rows))
            self._epoch, self._batches = epoch, split_batches(order, self._batch_size)
        return self._batches


class TrainLoader:
    """The batches of one epoch after another, made here or in `workers` processes that live as
    long as this object."""

    def __init__(self, batches: TrainBatches, workers: int) -> None:
        self._batches = batches
        self._places: list[Place] = []
        self._loader: DataLoader | None = None
        if workers:
            self._loader = DataLoader(
                batches,
                batch_size=None,
                sampler=self._places,
                num_workers=workers,
                collate_fn=_as_is,
                worker_init_fn=_one_thread,
                persistent_workers=True,
                # Its seed for the workers, which ours have no use for, is not to be drawn from
                # the generator that dropout draws from.
                generator=torch.Generator(),
                # Never a fork: CUDA may have started, and a fork copies its broken state.
                multiprocessing_context="spawn",
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self._batches)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, in order."""
        self._places[:] = [(epoch, number) for number in range(len(self._batches))]
        if self._loader is None:
            return (self._batches[place] for place in self._places)
        return iter(self._loader)


def split_batches(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Consecutive batches. A last batch of one row joins the one before: batch norm has no
    variance of a single row."""
    cuts = list(range(batch_size, len(rows), batch_size))
    if batch_size > 1 and cuts and len(rows) - cuts[-1] == 1:
        cuts.pop()
    return np.split(rows, cuts)


def evaluation_batches(
    cache: ImageCache, rows: Sequence[int] | np.ndarray, transform: Transform, batch_size: int
) -> Iterator[np.ndarray]:
    """The images (n, size, size, 3) uint8 of `rows`, in order."""
    rows = np.asarray(rows)
    for start in range(0, len(rows), batch_size):
        images = cache[rows[start : start + batch_size]]
        yield np.stack([transform(image) for image in images])


def to_input(
    images: np.ndarray, normalisation: Normalisation, device: torch.device
) -> torch.Tensor:
    """(n, H, W, 3) uint8 to normalised (n, 3, H, W) float32, channels last, on the device."""
    raw = torch.from_numpy(images)
    if device.type == "cuda":
        raw = raw.pin_memory().to(device, non_blocking=True)
    scaled = raw.permute(0, 3, 1, 2).to(torch.float32)
    mean = torch.tensor(normalisation.mean, device=device).view(1, 3, 1, 1) * 255.0
    std = torch.tensor(normalisation.std, device=device).view(1, 3, 1, 1) * 255.0
    return ((scaled - mean) / std).contiguous(memory_format=torch.channels_last)


def _as_is(batch: Any) -> Any:
    return batch


def _one_thread(worker: int) -> None:
    """The workers are the threads. (Unpickling a transform does not run what made it.)"""
    cv2.setNumThreads(0)
