"""foldblend's blender beside AutoGluon and SciPy: times, losses and peak memory on equal arrays.

    python benchmarks/blending.py [--sizes A,D] [--quick] [--json FILE]

Needs AutoGluon: see benchmarks/requirements-blending.txt for the three commands. Everything runs in
one process with one thread, on predictions made from a seed. Ours is the median of several calls
after a warm-up, AutoGluon's whole probabilities one call (a minute or two at the larger sizes), the
shorter rivals a median too. Times are the process's own time on a core, which other programs on the
machine do not lengthen; the last line says how far that was from the wall clock. Peak memory is
what a call adds to the process; the predictions themselves are counted to nobody. About 15 minutes
in all; --quick leaves AutoGluon's log loss out at sizes B and E. Run it on an otherwise idle
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

# Before numpy is imported: BLAS threads beside compiled code make both slower.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# AutoGluon's environment does not have foldblend installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from blending_files import seconds_per_file
from blending_measure import Measured, first_calls, once, repeated
from blending_rivals import (
    SLSQP_TOLERANCES,
    Order,
    autogluon_greedy,
    autogluon_temperature,
    autogluon_true_class,
    numpy_greedy,
    scipy_temperature,
    slsqp,
)
from blending_sizes import SIZES, made_predictions
from threadpoolctl import threadpool_limits

from ensemble.average import true_class_matrix
from ensemble.calibration import apply_temperature, fit_temperature
from ensemble.convex import convex_certificate, fit_convex
from ensemble.greedy import (
    greedy_from_true_class,
    greedy_selection,
    greedy_weights,
    select_from_true_class,
)
from ensemble.metrics import LOG_LOSS, METRICS, Metric

ROOT = Path(__file__).resolve().parents[1]
STEPS = 25
HIGHER = ("A", "B")  # where 10,000 times is asked for
SLOW = ("B", "E")  # left out by --quick
TIE = 1e-6


@dataclass(frozen=True)
class Figure:
    """One measurement. `score` is a loss, or the metric's value, or a temperature; `peak_mb` what
    the call added to the process."""

    name: str
    ms: float
    score: float | None = None
    peak_mb: float | None = None
    note: str = ""
    wall_ms: float | None = None

    def __str__(self) -> str:
        score = "" if self.score is None else f"{self.score:.7f}"
        peak = "" if self.peak_mb is None else f"{self.peak_mb:,.1f} MB"
        return f"  {self.name:<42}{self.ms:>14,.2f} ms{score:>13}{peak:>13}  {self.note}".rstrip()


@dataclass(frozen=True)
class Target:
    """What the benchmark must show, and what it showed."""

    what: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign, word = ("at least" if self.at_least else "at most"), "met" if self.met else "MISSED"
        return f"    {self.what}: {_short(self.value)} ({sign} {_short(self.bound)}: {word})"


@dataclass(frozen=True)
class Remark:
    """What is worth knowing and no target: ties between models are broken by choice."""

    text: str

    def __str__(self) -> str:
        return f"    {self.text}"


Line = Figure | Target | Remark


@dataclass(frozen=True, eq=False)
class Data:
    """One size: probs (M, N, C), labels (N,), p_true (M, N)."""

    name: str
    probs: np.ndarray
    labels: np.ndarray
    p_true: np.ndarray

    def loss(self, weights: np.ndarray) -> float:
        """Log loss of the weighted mean, in float64, by the same function for everybody."""
        assert LOG_LOSS.from_true_class is not None
        return LOG_LOSS.from_true_class(weights @ self.p_true.astype(np.float64))

    def score(self, metric: Metric, weights: np.ndarray) -> float:
        blend = np.zeros(self.probs.shape[1:])
        for weight, proba in zip(weights, self.probs, strict=True):
            if weight:
                blend += weight * proba
        return metric(self.labels, blend)


def made(name: str) -> Data:
    probs, labels = made_predictions(SIZES[name])
    p_true = np.ascontiguousarray(true_class_matrix(probs, labels), dtype=np.float32)
    return Data(name, probs, labels, p_true)


def greedy_log_loss(data: Data, *, autogluon: bool) -> Iterator[Line]:
    m = len(data.p_true)
    ours = repeated(lambda: greedy_from_true_class(data.p_true, LOG_LOSS, steps=STEPS))
    order = Order(tuple(select_from_true_class(data.p_true, LOG_LOSS, steps=STEPS).order))
    our_loss = data.loss(order.weights(m))
    yield _figure("greedy log loss, foldblend on (M, N)", ours, our_loss)
    whole = repeated(lambda: greedy_weights(data.probs, data.labels, LOG_LOSS, steps=STEPS))
    yield _figure("    and finding it in (M, N, C)", whole)
    rival = repeated(lambda: autogluon_true_class(data.p_true, STEPS))
    rival_loss = data.loss(rival.result.weights(m))
    yield _figure("AutoGluon on (M, N)", rival, rival_loss)
    plain = repeated(lambda: numpy_greedy(data.p_true, STEPS))
    yield _figure("plain numpy on (M, N)", plain, data.loss(plain.result.weights(m)))
    yield Target("log loss: times AutoGluon on (M, N)", rival.seconds / ours.seconds, 5.0)
    yield Target(
        "log loss: above AutoGluon's on (M, N)", our_loss - rival_loss, TIE, at_least=False
    )
    if not autogluon:
        return
    _say(f"{data.name}: AutoGluon, log loss")
    full = once(lambda: autogluon_greedy(data.probs, data.labels, "log_loss", STEPS))
    full_loss = data.loss(full.result.weights(m))
    yield _figure("AutoGluon on (M, N, C)", full, full_loss)
    bound = 10_000.0 if data.name in HIGHER else 1_000.0
    yield Target("log loss: times AutoGluon on (M, N, C)", full.seconds / ours.seconds, bound)
    yield Target(
        "log loss: above AutoGluon's on (M, N, C)", our_loss - full_loss, TIE, at_least=False
    )


def greedy_decisions(data: Data, name: str) -> Iterator[Line]:
    metric, m = METRICS[name], len(data.p_true)
    ours = repeated(lambda: greedy_weights(data.probs, data.labels, metric, steps=STEPS))
    selection = greedy_selection(data.probs, data.labels, metric, steps=STEPS)
    our_weights = Order(tuple(selection.order)).weights(m)
    yield _figure(
        f"greedy {name}, foldblend", ours, data.score(metric, our_weights), data.loss(our_weights)
    )
    _say(f"{data.name}: AutoGluon, {name}")
    rival = once(lambda: autogluon_greedy(data.probs, data.labels, name, STEPS))
    weights = rival.result.weights(m)
    yield _figure(f"AutoGluon, {name}", rival, data.score(metric, weights), data.loss(weights))
    yield Target(f"{name}: times AutoGluon", rival.seconds / ours.seconds, 50.0)
    best, its_best = data.score(metric, ours.result), _best_prefix(data, metric, rival.result)
    yield Remark(f"{name}: best prefix {best:.7f}, AutoGluon's {its_best:.7f}")


def _best_prefix(data: Data, metric: Metric, order: Order) -> float:
    """By the metric itself: AutoGluon's own record of it is rounded."""
    m = len(data.p_true)
    prefixes = {tuple(order.weights(m, steps)) for steps in range(1, STEPS + 1)}
    return max(data.score(metric, np.array(weights)) for weights in prefixes)


def convex(data: Data) -> Iterator[Line]:
    ours = repeated(lambda: fit_convex(data.p_true))
    weights, _ = ours.result
    gap = convex_certificate(data.p_true, weights)
    yield _figure("convex optimum, foldblend", ours, data.loss(weights), note=f"gap {gap:.1e}")
    rows = np.ascontiguousarray(data.p_true.T, dtype=np.float64)
    _say(f"{data.name}: SLSQP")
    for tolerance in SLSQP_TOLERANCES:
        rival = repeated(lambda tolerance=tolerance: slsqp(rows, tolerance))
        its_gap = convex_certificate(data.p_true, rival.result.weights)
        yield _figure(
            f"SciPy SLSQP, ftol {tolerance:g}",
            rival,
            data.loss(rival.result.weights),
            note=f"gap {its_gap:.1e}",
        )
        if tolerance == SLSQP_TOLERANCES[0]:
            yield Target(
                "convex: times SLSQP at its default ftol", rival.seconds / ours.seconds, 1.0
            )
        if its_gap <= TIE:
            break
    yield Target("convex: gap", gap, TIE, at_least=False)
    yield Target("convex: ms", ours.ms, 20.0, at_least=False)
    yield Target("convex: times the SLSQP of such a gap", rival.seconds / ours.seconds, 1.0)
    yield Target(
        "convex: log loss above SLSQP's",
        data.loss(weights) - data.loss(rival.result.weights),
        TIE,
        at_least=False,
    )


def temperature(data: Data) -> Iterator[Line]:
    proba, labels = data.probs[0], data.labels

    def loss(found: float) -> float:
        return LOG_LOSS(labels, apply_temperature(proba, found))

    ours = repeated(lambda: fit_temperature(proba, labels))
    yield _figure(
        "temperature of a model, foldblend", ours, loss(ours.result), note=f"T {ours.result:.6f}"
    )
    rival = repeated(lambda: scipy_temperature(proba, labels))
    yield _figure(
        "SciPy minimize_scalar, bounded", rival, loss(rival.result), note=f"T {rival.result:.6f}"
    )
    try:
        other = once(lambda: autogluon_temperature(proba, labels))
    except ImportError:
        _say(f"{data.name}: AutoGluon's temperature needs torch, which is not installed here")
    else:
        yield _figure("AutoGluon, temperature", other, other.result and loss(other.result))
    yield Target("temperature: times SciPy", rival.seconds / ours.seconds, 10.0)
    yield Target(
        "temperature: log loss above SciPy's",
        loss(ours.result) - loss(rival.result),
        TIE,
        at_least=False,
    )


def from_files(data: Data) -> Iterator[Line]:
    files, measured = seconds_per_file(data.probs, data.labels)
    yield _figure(
        f"true class of {files} files", measured, note=f"{measured.ms / files:.3f} ms a file"
    )
    yield Target("from files: ms a file", measured.ms / files, 0.5, at_least=False)


def compiling() -> None:
    """Before anything else has run, so that nothing is compiled yet but by these processes."""
    cold, warm = first_calls(ROOT)
    print("First calls in a fresh process, seconds: without and with compiled code on disk")
    for name in cold:
        print(f"  {name:<20}{cold[name]:>8.2f}{warm[name]:>8.2f}")
    print(f"  {'all':<20}{sum(cold.values()):>8.2f}{sum(warm.values()):>8.2f}\n", flush=True)


def measured_size(name: str, *, quick: bool) -> Iterator[Line]:
    data = made(name)
    yield from greedy_log_loss(data, autogluon=not (quick and name in SLOW))
    yield from greedy_decisions(data, "accuracy")
    yield from greedy_decisions(data, "macro_f1")
    yield from convex(data)
    yield from temperature(data)
    yield from from_files(data)


def _figure(
    name: str,
    measured: Measured[object],
    score: float | None = None,
    loss: float | None = None,
    note: str = "",
) -> Figure:
    peak = None if measured.peak_bytes is None else measured.peak_bytes / 1e6
    if loss is not None:
        note = f"log loss {loss:.4f}"
    return Figure(name, measured.ms, score, peak, note, 1e3 * measured.wall_seconds)


def _short(value: float) -> str:
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"


def _say(text: str) -> None:
    print(f"[{text} …]", file=sys.stderr, flush=True)


def _sizes(text: str) -> Sequence[str]:
    names = text.upper().split(",")
    unknown = [name for name in names if name not in SIZES]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {','.join(SIZES)}, got {unknown[0]!r}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=_sizes, default=list(SIZES), help="of A,B,C,D,E")
    parser.add_argument("--quick", action="store_true", help="without AutoGluon at B and E")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    asked = parser.parse_args()
    compiling()
    found: dict[str, list[Line]] = {}
    wall, busy = time.perf_counter(), time.process_time()
    with threadpool_limits(1):
        for name in asked.sizes:
            size = SIZES[name]
            megabytes = size.rows * size.classes * size.models * 4 / 1e6
            print(f"{name}: {size} (rows x classes x models), {megabytes:,.0f} MB of probabilities")
            found[name] = []
            for line in measured_size(name, quick=asked.quick):
                found[name].append(line)
                print(line, flush=True)
            print()
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    print(f"{wall:,.0f} s, of which this process had a core to itself {busy / wall:.0%}")
    summary(found)
    if asked.json:
        asked.json.write_text(json.dumps(_plain(found), indent=1) + "\n")


def summary(found: dict[str, list[Line]]) -> None:
    targets = [(name, line) for name in found for line in found[name] if isinstance(line, Target)]
    missed = [(name, target) for name, target in targets if not target.met]
    print(f"{len(targets) - len(missed)} of {len(targets)} targets met")
    for name, target in missed:
        print(f"  {name}: {str(target).strip()}")


def _plain(found: dict[str, list[Line]]) -> dict[str, list[dict[str, object]]]:
    def plain(line: Line) -> dict[str, object]:
        verdict: dict[str, object] = {"met": line.met} if isinstance(line, Target) else {}
        return asdict(line) | verdict

    return {name: [plain(line) for line in lines] for name, lines in found.items()}


if __name__ == "__main__":
    main()
