"""Time, memory and compile time of one call.

Times are the process's own, on a core: everything measured has one thread, so on an idle machine
that is the wall clock, and on a busy one a call of minutes would else be charged for all that ran
beside it, and a call of milliseconds for nothing.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

Result = TypeVar("Result")
ENOUGH_S = 2.0  # of repetitions
MOST_REPETITIONS = 15
STATUS = Path("/proc/self/status")
RESET_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Measured(Generic[Result]):
    """What a call returned, its median time and wall clock over `repetitions`, and how far the
    process's memory rose above what it held before (None where the system does not say)."""

    result: Result
    seconds: float
    wall_seconds: float
    repetitions: int
    peak_bytes: int | None

    @property
    def ms(self) -> float:
        return 1e3 * self.seconds


def once(call: Callable[[], Result]) -> Measured[Result]:
    """Time and memory of a single call."""
    before = _reset_peak()
    wall, own = time.perf_counter(), time.process_time()
    result = call()
    own, wall = time.process_time() - own, time.perf_counter() - wall
    return Measured(result, own, wall, 1, None if before is None else memory("VmHWM") - before)


def repeated(call: Callable[[], Result]) -> Measured[Result]:
    """After a warm-up (which compiles), memory of one call and the median time of the next: at
    least 3, up to 15 while they take less than two seconds together."""
    call()
    first = once(call)
    own: list[float] = []
    wall: list[float] = []
    while len(own) < 3 or (len(own) < MOST_REPETITIONS and sum(wall) < ENOUGH_S):
        started, busy = time.perf_counter(), time.process_time()
        call()
        own.append(time.process_time() - busy)
        wall.append(time.perf_counter() - started)
    medians = statistics.median(own), statistics.median(wall)
    return Measured(first.result, *medians, len(own), first.peak_bytes)


def memory(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    found = re.search(rf"^{field}:\s*(\d+) kB", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"{STATUS} does not tell {field}")
    return 1024 * int(found[1])


def _reset_peak() -> int | None:
    """Bytes held now, from which the peak is counted anew; None where this is not Linux."""
    gc.collect()
    try:
        # What the allocator kept of freed memory would hide as much of the next rise.
        ctypes.CDLL(None).malloc_trim(0)
        RESET_PEAK.write_text("5")
        return memory("VmRSS")
    except (OSError, AttributeError):
        return None


FIRST_CALLS = """
import sys, time
started = 0.0
sys.path.insert(0, {root!r})
import numpy as np
from ensemble.calibration import fit_temperature
from ensemble.convex import fit_convex
from ensemble.greedy import greedy_from_true_class, greedy_weights
from ensemble.metrics import ACCURACY, LOG_LOSS, MACRO_F1
probs = np.random.default_rng(0).random((3, 40, 4), dtype=np.float32)
probs /= probs.sum(axis=2, keepdims=True)
labels = np.arange(40) % 4
p_true = np.ascontiguousarray(probs[:, np.arange(40), labels])
calls = {{
    "imports": lambda: None,
    "greedy log loss": lambda: greedy_from_true_class(p_true, LOG_LOSS, steps=2),
    "greedy accuracy": lambda: greedy_weights(probs, labels, ACCURACY, steps=2),
    "greedy macro-F1": lambda: greedy_weights(probs, labels, MACRO_F1, steps=2),
    "convex": lambda: fit_convex(p_true),
    "temperature": lambda: fit_temperature(probs[0], labels),
}}
for name, call in calls.items():
    call()
    print(f"{{name}}={{time.process_time() - started:.6f}}")
    started = time.process_time()
"""


def first_calls(root: Path) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Seconds of each first call in a fresh process: without compiled code on disk, and with it.
    On a handful of rows, so that all of it is compiling or loading."""
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (_first_calls(root, cache) for _ in range(2))
    return cold, warm


def _first_calls(root: Path, cache: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALLS.format(root=str(root))],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the first calls failed: {done.stderr.strip()}")
    pairs = (line.split("=") for line in done.stdout.splitlines())
    return {name: float(seconds) for name, seconds in pairs}
