"""Several tiny fold runs at once on one device against the same ones one after another.

Each has a process of its own that has started its device and made a first fold run before, as the
warm actors of a search have. Used by `gpu_step.py`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from gpu_data import Setting, task_of

from trainables.loop import run_fold
from trainables.run_data import RunData
from trainables.task import FoldTask

HEADER = (
    "| tiny fold runs | one after another, s | at once, s | times | lowest |\n|--:|--:|--:|--:|--:|"
)


class Worker:
    """A process that makes one fold run after another; its first is done when it is there."""

    def __init__(
        self, number: int, model: str, setting: Setting, epochs: int, data: RunData, aside: Path
    ) -> None:
        self._number, self._model, self._setting = number, model, setting
        self._epochs, self._aside, self._made = epochs, aside, 0
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(data, setting.device, theirs), daemon=True
        )
        self._process.start()

    def begin(self) -> None:
        """Start a fold run, in a run directory that no other had."""
        run = self._aside / f"worker{self._number}-{self._made}"
        self._made += 1
        self._pipe.send(task_of(self._model, self._setting, self._epochs, run))

    def wait(self) -> None:
        """Until it is complete. EOFError where the process has ended, which says why itself."""
        self._pipe.recv()

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def _serve(data: RunData, device: str, pipe: Connection) -> None:
    with contextlib.suppress(EOFError):  # the parent has finished
        while True:
            task: FoldTask = pipe.recv()
            for _ in run_fold(task, data, torch.device(device)):
                pass
            pipe.send("done")


def measure_packing(
    models: tuple[str, ...],
    counts: tuple[int, ...],
    setting: Setting,
    epochs: int,
    data: RunData,
    aside: Path,
    rounds: int,
) -> list[str]:
    """The table's rows. `counts`: how many fold runs at once; `models` take turns among them."""
    workers = [
        Worker(number, models[number % len(models)], setting, epochs, data, aside)
        for number in range(max(counts))
    ]
    _at_once(workers)
    rows = []
    for count in counts:
        chosen = workers[:count]
        pairs = [(_one_after_another(chosen), _at_once(chosen)) for _ in range(rounds)]
        ratios = [alone / packed for alone, packed in pairs]
        alone, packed = (statistics.median(times) for times in zip(*pairs, strict=True))
        rows.append(
            f"| {count} | {alone:.1f} | {packed:.1f} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f} |"
        )
    for worker in workers:
        worker.close()
    return rows


def _one_after_another(workers: list[Worker]) -> float:
    begun = time.perf_counter()
    for worker in workers:
        worker.begin()
        worker.wait()
    return time.perf_counter() - begun


def _at_once(workers: list[Worker]) -> float:
    begun = time.perf_counter()
    for worker in workers:
        worker.begin()
    for worker in workers:
        worker.wait()
    return time.perf_counter() - begun
