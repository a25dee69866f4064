"""The shuffled, augmented batches of all epochs. A batch depends only on (seed, epoch, number): not
on who prepares it, not on what ran before. That is what makes resuming exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from search_spaces.config import AugmentConfig, PreprocessConfig
from trainables import device_augment
from trainables.batch_render import BatchRenderer
from trainables.cpu_augment import finish, warp
from trainables.draws import Draws, draw_batch
from trainables.image_cache import ImageSource, aspects_of
from trainables.mixing import Mix, draw_mix, mix_images, mix_targets
from trainables.policies.build import Policy, build_policy
from trainables.recipe import Normalisation
from trainables.seeds import derive_seed

Place = tuple[int, int]


@dataclass(frozen=True)
class HostBatch:
    """A batch as it leaves the processor.

    images: (n, 3, size, size) float32, ready, where `draws` is None; else (n, S, S, 3) uint8, on
    which the device does what `draws` says. labels: (n,) int64."""

    images: Tensor
    labels: Tensor
    draws: Draws | None = None
    mix: Mix | None = None

    def pin_memory(self) -> HostBatch:
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training image on its way to the model. `on_device`: what can be batched
    is left to the device; `channels_last`: how the model wants its input to lie in memory."""

    augment: AugmentConfig
    preprocess: PreprocessConfig
    image_size: int
    normalisation: Normalisation
    on_device: bool = False
    threads: int = 1
    channels_last: bool = True


class TrainBatches(Dataset):
    """Item (epoch, number) is a HostBatch."""

    def __init__(
        self,
        source: ImageSource,
        rows: np.ndarray,
        labels: np.ndarray,
        how: Augmentation,
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        """`rows`: (N,) rows of the source, `labels`: (N,) their classes."""
        self._source, self._how = source, how
        self._rows, self._labels = rows, labels
        self._batch_size, self._seed = batch_size, seed
        self._epoch = -1
        self._batches: list[np.ndarray] = []
        self._policy: Policy | None = build_policy(how.augment, how.preprocess.fill)
        self._renderer: BatchRenderer | None = None

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(split_batches(self._rows, self._batch_size))

    def __getitem__(self, place: Place) -> HostBatch:
        epoch, number = place
        chosen = self._order(epoch)[number]
        rows, how = self._rows[chosen], self._how
        generator = np.random.default_rng(derive_seed("augment", self._seed, epoch, number))
        aspects = aspects_of(self._source, rows, how.preprocess)
        draws = draw_batch(how.augment, how.preprocess, aspects, how.image_size, generator)
        mix = draw_mix(how.augment, len(rows), how.image_size, generator)
        labels = torch.from_numpy(self._labels[chosen].astype(np.int64))
        if self._policy is not None:
            self._policy.reseed(derive_seed("policy", self._seed, epoch, number))
            return self._with_policy(self._policy, rows, labels, draws, mix)
        if how.on_device:
            return HostBatch(self._drawer.byte_batch(self._source, rows), labels, draws, mix)
        images = self._drawer.render_batch(self._source, rows, draws, mix)
        return HostBatch(images, labels, mix=mix)

    def _with_policy(
        self, policy: Policy, rows: np.ndarray, labels: Tensor, draws: Draws, mix: Mix | None
    ) -> HostBatch:
        how, size = self._how, self._how.image_size
        images = np.empty((len(rows), size, size, 3), np.uint8)
        warp(self._source[rows], draws, size, how.preprocess.fill, images)
        for image in images:
            image[:] = policy(image)
        if how.on_device:
            return HostBatch(torch.from_numpy(images), labels, draws.finish_only(), mix)
        out = np.empty((len(rows), size, size, 3), np.float32)
        finish(images, draws, how.normalisation.mean, how.normalisation.std, out)
        if mix is not None:
            mix_images(out, mix)
        return HostBatch(torch.from_numpy(out).permute(0, 3, 1, 2), labels, mix=mix)

    @property
    def _drawer(self) -> BatchRenderer:
        if self._renderer is None:  # made where it is used: its threads do not travel
            how = self._how
            self._renderer = BatchRenderer(
                how.image_size,
                how.normalisation.mean,
                how.normalisation.std,
                how.preprocess.fill,
                n_threads=how.threads,
            )
        return self._renderer

    def _order(self, epoch: int) -> Sequence[np.ndarray]:
        """The batches of an epoch as indices into the rows; the last epoch asked for is kept."""
        if epoch != self._epoch:
            generator = np.random.default_rng(derive_seed("order", self._seed, epoch))
            order = generator.permutation(len(self._rows))
            self._epoch, self._batches = epoch, split_batches(order, self._batch_size)
        return self._batches

    def __getstate__(self) -> dict[str, object]:
        # Known here, they are not read again by every process.
        aspects_of(self._source, self._rows[:1], self._how.preprocess)
        return {**self.__dict__, "_renderer": None}


def deliver(
    batch: HostBatch,
    how: Augmentation,
    n_classes: int,
    device: torch.device,
    at_once: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Inputs (n, 3, size, size) float32 on the device, and targets: (n,) int64, or (n, C) float32
    where labels were mixed. `at_once`: see `device_augment.render`."""
    images = batch.images.to(device, non_blocking=True)
    if batch.draws is not None:
        images = device_augment.render(
            images,
            batch.draws,
            how.image_size,
            how.normalisation.mean,
            how.normalisation.std,
            how.preprocess.fill,
            mix=batch.mix,
            at_once=at_once,
        )
    layout = torch.channels_last if how.channels_last else torch.contiguous_format
    images = images.contiguous(memory_format=layout)
    labels = batch.labels.to(device, non_blocking=True)
    if batch.mix is None:
        return images, labels
    return images, mix_targets(labels, batch.mix, n_classes)


def split_batches(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Consecutive batches. A last batch of one row joins the one before: batch norm has no
    variance of a single row."""
    cuts = list(range(batch_size, len(rows), batch_size))
    if batch_size > 1 and cuts and len(rows) - cuts[-1] == 1:
        cuts.pop()
    return np.split(rows, cuts)
