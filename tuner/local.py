"""The same search without a cluster: fold runs in this process, slots taking turns.

For tests, simulations and debugging. With several slots the turns are round-robin by epoch, so
it is deterministic for any number of slots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trainables.failure import describe
from trainables.task import EpochResult, FoldTask
from tuner.conductor import Conductor

RunFold = Callable[[FoldTask], Iterator[EpochResult]]


def run_in_process(conductor: Conductor, run_fold: RunFold) -> None:
    """Drive `conductor` until nothing is left to do."""
    running: list[tuple[FoldTask, Iterator[EpochResult]]] = []
    while True:
        running += [(task, run_fold(task)) for task in _new_tasks(conductor)]
        if not running:
            return
        running = [pair for pair in running if _advance(conductor, *pair)]


def _new_tasks(conductor: Conductor) -> Iterator[FoldTask]:
    while isinstance(task := conductor.take(), FoldTask):
        yield task


def _advance(conductor: Conductor, task: FoldTask, results: Iterator[EpochResult]) -> bool:
    """One epoch of one fold run; False when the fold run is over."""
    try:
        result = next(results)
    except Exception as error:  # as on a cluster: a failed fold run does not end the search
        conductor.fail(task, describe(error))
        return False
    return not conductor.report(task, result)
