"""The batches of one epoch after another: prepared here, by a thread ahead, or in processes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainables.errors import DataError
from trainables.loader_settings import (
    PROBE_BATCHES,
    WARM_UP,
    cpus_for_one_device,
    measured_settings,
    starting_settings,
)
from trainables.memory import halved_until_it_fits
from trainables.train_batches import Augmentation, HostBatch, Place, TrainBatches, deliver


class TrainLoader:
    """Who prepares the batches changes their speed and nothing else. `workers`: processes, None to
    choose after the first batches were measured; `cores`: that this fold run may keep busy, None
    for its share by the GPUs it sees.

    `at_once`: images in the making on the device at a time, None for a whole batch. When the
    device's memory runs out, that is halved, for all that follows too."""

    def __init__(
        self,
        batches: TrainBatches,
        how: Augmentation,
        *,
        n_classes: int,
        device: torch.device,
        workers: int | None = None,
        cores: int | None = None,
    ) -> None:
        self.settings = starting_settings(device, workers)
        self._batches, self._how = batches, how
        self._n_classes, self._device = n_classes, device
        self._cores = cores
        self.at_once: int | None = None
        self._is_measured = workers is not None or device.type == "cpu"
        self._places: list[Place] = []
        self._processes: DataLoader | None = None

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self._batches)

    def at_most(self, images: int) -> None:
        """Have no more in the making at a time than go through the model."""
        self.at_once = min(self.at_once or images, images)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets on the device, in order: see `train_batches.deliver`."""
        places = [(epoch, number) for number in range(len(self._batches))]
        probe = 0 if self._is_measured else min(PROBE_BATCHES, len(places))
        if probe:
            yield from self._measure(places[:probe])
        for batch in self._prepared(places[probe:]):
            yield self._deliver(batch)

    def _prepared(self, places: Sequence[Place]) -> Iterator[HostBatch]:
        if not places:
            return iter(())
        if self.settings.workers:
            return self._from_processes(places)
        if self.settings.prefetch:
            return self._from_thread(places)
        return (self._batches[place] for place in places)

    def _deliver(self, batch: HostBatch) -> tuple[Tensor, Tensor]:
        def make(at_once: int) -> tuple[Tensor, Tensor]:
            return deliver(batch, self._how, self._n_classes, self._device, at_once)

        size = min(self.at_once or len(batch.labels), len(batch.labels))
        made, fitted = halved_until_it_fits(make, size, self._device)
        if fitted < size:
            self.at_once = fitted
        return made

    def _measure(self, places: Sequence[Place]) -> Iterator[tuple[Tensor, Tensor]]:
        """Hand these out one by one, and choose the settings by how long each took to prepare and
        how long the model took."""
        preparing, stepping = [], []
        for place in places:
            begun = time.perf_counter()
            batch = self._pinned(self._batches[place])
            prepared = time.perf_counter()
            yield self._deliver(batch)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            preparing.append(prepared - begun)
            stepping.append(time.perf_counter() - prepared)
        counted = slice(min(WARM_UP, len(places) - 1), None)
        self.settings = measured_settings(
            self.settings,
            _median(preparing[counted]),
            _median(stepping[counted]),
            self._cores or cpus_for_one_device(),
        )
        self._is_measured = True

    def _from_thread(self, places: Sequence[Place]) -> Iterator[HostBatch]:
        waiting: deque[Future[HostBatch]] = deque()
        with ThreadPoolExecutor(1) as thread:
            try:
                for place in places:
                    waiting.append(thread.submit(self._make, place))
                    if len(waiting) > self.settings.prefetch:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for one in waiting:
                    one.cancel()

    def _make(self, place: Place) -> HostBatch:
        return self._pinned(self._batches[place])

    def _pinned(self, batch: HostBatch) -> HostBatch:
        return batch.pin_memory() if self.settings.pinned else batch

    def _from_processes(self, places: Sequence[Place]) -> Iterator[HostBatch]:
        if self._processes is None:
            self._processes = DataLoader(
                _Told(self._batches),
                batch_size=None,
                sampler=self._places,
                num_workers=self.settings.workers,
                prefetch_factor=self.settings.prefetch,
                pin_memory=self.settings.pinned,
                collate_fn=_as_is,
                worker_init_fn=_one_thread,
                persistent_workers=True,
                # Its seed for the workers, which ours have no use for, is not to be drawn from
                # the generator that dropout draws from.
                generator=torch.Generator(),
                # Never a fork: CUDA may have started, and a fork copies its broken state.
                multiprocessing_context="spawn",
            )
        self._places[:] = places
        return map(_as_batch, self._processes)


class _Told(Dataset):
    """The batches for another process, from which an error about the images comes as a value. One
    that is raised there torch makes anew here, out of a text of many lines, and what it is about
    (which image, of which kind) is lost."""

    def __init__(self, batches: TrainBatches) -> None:
        self._batches = batches

    def __getitem__(self, place: Place) -> HostBatch | DataError:
        try:
            return self._batches[place]
        except DataError as error:
            return error


def _as_batch(told: HostBatch | DataError) -> HostBatch:
    if isinstance(told, DataError):
        raise told
    return told


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _as_is(batch: Any) -> Any:
    return batch


def _one_thread(worker: int) -> None:
    """The workers are the threads. (Unpickling a transform does not run what made it.)"""
    cv2.setNumThreads(0)
