"""The same search twice: one fold run at a time with two threads, and two at a time with one each.

    python benchmarks/slots.py [--configurations 6] [--epochs 4]

Both go through Ray with warm actors and train the same number of fold-epochs on scikit-learn's
digits (no pruning). Prints fold-epochs per second of both, start-up included and excluded, and
their ratio. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tuner import events as ev
from tuner.replayed import StoredRun
from tuner.study import search


@dataclass(frozen=True)
class Timing:
    """Wall clock in seconds of the whole call, and from the first fold run's start to the last's
    end: the first epoch counts, Ray's start and the blend do not."""

    fold_epochs: int
    whole_seconds: float
    steady_seconds: float

    @property
    def per_second(self) -> float:
        return self.fold_epochs / self.whole_seconds

    @property
    def steady_per_second(self) -> float:
        return self.fold_epochs / self.steady_seconds


def measure(storage: Path, slots: int, threads: int, configurations: int, epochs: int) -> Timing:
    started = time.perf_counter()
    outcome = search(
        [
            *("experiment=digits", f"storage={storage}", f"name=slots-{slots}", "folds.k=3"),
            *("search.pruning.enabled=false", "search.promotion.members=2", "blend.bootstrap=0"),
            *(f"search.budget.configurations={configurations}", f"train.epochs={epochs}"),
            *(f"search.resources.slots={slots}", f"search.resources.threads={threads}"),
            "search.resources.cpus=1",
        ],
        console=Console(quiet=True),
    )
    seconds = time.perf_counter() - started
    return Timing(outcome.stored.race.fold_epochs_spent, seconds, steady(outcome.stored))


def steady(stored: StoredRun) -> float:
    times = [
        record.time
        for record in stored.records
        if isinstance(record.event, ev.Started | ev.Reported | ev.Finished)
    ]
    return max(times) - min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as storage:
        one = measure(Path(storage), 1, 2, asked.configurations, asked.epochs)
        two = measure(Path(storage), 2, 1, asked.configurations, asked.epochs)
    for name, timing in (("1 slot, 2 threads", one), ("2 slots, 1 thread", two)):
        print(
            f"{name}: {timing.fold_epochs} fold-epochs in {timing.whole_seconds:.1f} s, "
            f"{timing.per_second:.2f} a second; search alone {timing.steady_per_second:.2f}"
        )
    print(
        f"ratio 2 slots / 1 slot: whole {two.per_second / one.per_second:.2f}, "
        f"search alone {two.steady_per_second / one.steady_per_second:.2f}"
    )


if __name__ == "__main__":
    main()
