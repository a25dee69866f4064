"""Batches from the decoded cache. A batch depends only on (seed, epoch, batch number): not on the
number of worker processes, not on what ran before. That is what makes resuming exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


class TrainBatches(Dataset):
    """The shuffled, augmented batches of one epoch; item i is batch i."""

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
        self._cache = cache
        self._transform = transform
        self._seed = seed
        order = np.random.default_rng(derive_seed("order", seed)).permutation(len(rows))
        self._batches = split_batches(rows[order], batch_size)
        self._labels = split_batches(labels[order], batch_size)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Batch:
        self._transform.reseed(derive_seed("augment", self._seed, number))
        images = self._cache[self._batches[number]]
        augmented = np.stack([self._transform(image) for image in images])
        return Batch(augmented, self._labels[number].astype(np.int64))


def split_batches(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Consecutive batches. A last batch of one row joins the one before: batch norm has no
    variance of a single row."""
    cuts = list(range(batch_size, len(rows), batch_size))
    if cuts and len(rows) - cuts[-1] == 1:
        cuts.pop()
    return np.split(rows, cuts)


def iterate(batches: TrainBatches, workers: int) -> Iterator[Batch]:
    """The batches in order, made here or in `workers` processes."""
    if workers == 0:
        return (batches[number] for number in range(len(batches)))
    # Never a fork: CUDA may have started, and a fork copies its broken state.
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_is,
            multiprocessing_context="spawn",
        )
    )


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


def _as_is(batch: Batch) -> Batch:
    return batch
