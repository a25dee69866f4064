"""Does the nested score's interval hold what a blend scores on rows that nobody has seen?

    python benchmarks/interval_coverage.py [--tasks 200] [--metric log_loss] [--processes 2]

Each task is a made world: models of known skill with shared errors, a few hundred labelled rows in
folds (in some tasks in groups that share their noise), and a fresh sample of 50,000 rows from the
same process. A blend is fitted on the labelled rows with the usual settings; its nested score comes
with a 95 % interval. The kept blend is then scored on the fresh sample. Counted is how often the
interval holds that score; beside it the mean distance of the nested and of the in-sample score.

The models are fixed, as if trained elsewhere: every row, labelled or fresh, is predicted by the
same model. So the study judges the blending and its interval, not the training of fold models.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ensemble.blend import BlendSettings, fit_library
from ensemble.library import Library
from ensemble.metrics import get_metric

FRESH_ROWS = 50_000
FRESH_BLOCK = 10_000  # rows predicted at once
FOLDS = 5
LARGEST_GROUP = 4


@dataclass(frozen=True, eq=False)
class World:
    """A task's process: what is fixed for all its rows. M members, C classes.

    bonus      (M,) of the true class's logit: skill
    own, sharp (M,) standard deviation of a member's own noise, and its overconfidence
    taste      (M, C) a member's lasting preference for classes
    prior      (C,) how often each class occurs
    shared     standard deviation of the noise that all members have in common
    grouped    whether rows come in groups of one class that share half of the shared noise
    """

    bonus: NDArray[np.float64]
    own: NDArray[np.float64]
    sharp: NDArray[np.float64]
    taste: NDArray[np.float64]
    prior: NDArray[np.float64]
    shared: float
    grouped: bool


@dataclass(frozen=True, eq=False)
class Sample:
    """probs (M, N, C) float32, labels (N,), groups (N,) int."""

    probs: NDArray[np.float32]
    labels: NDArray[np.int32]
    groups: NDArray[np.int64]


@dataclass(frozen=True)
class Verdict:
    """One task's scores, in the metric's own units. `luck`: how much more the equal mean, which
    learns nothing, scores on the fresh rows than on the labelled ones; a blend shares most of it.
    """

    task: int
    method: str
    nested: float
    low: float
    high: float
    in_sample: float
    fresh: float
    luck: float
    grouped: bool

    @property
    def covered(self) -> bool:
        return self.low <= self.fresh <= self.high


def made_world(rng: np.random.Generator) -> World:
    members, classes = int(rng.integers(5, 11)), int(rng.integers(5, 21))
    return World(
        bonus=rng.uniform(0.7, 1.2, members) * (0.8 + math.sqrt(2.0 * math.log(classes))),
        own=rng.uniform(0.4, 1.2, members),
        sharp=rng.uniform(0.7, 2.5, members),
        taste=rng.normal(0.0, 0.4, (members, classes)),
        prior=rng.dirichlet(np.full(classes, 5.0)),
        shared=float(rng.uniform(0.5, 1.2)),
        grouped=bool(rng.random() < 0.35),
    )


def drawn(world: World, rows: int, rng: np.random.Generator) -> Sample:
    """`rows` rows; a group is drawn whole, but the last one may be cut short."""
    sizes = rng.integers(1, LARGEST_GROUP + 1, rows) if world.grouped else np.ones(rows, int)
    groups = np.repeat(np.arange(rows), sizes)[:rows]
    classes = len(world.prior)
    labels = rng.choice(classes, size=groups[-1] + 1, p=world.prior)[groups].astype(np.int32)
    noise = rng.standard_normal((rows, classes))
    if world.grouped:
        noise += rng.standard_normal((groups[-1] + 1, classes))[groups]
        noise /= math.sqrt(2.0)
    noise *= world.shared
    members = len(world.bonus)
    probs = np.empty((members, rows, classes), np.float32)
    for member in range(members):
        logits = noise + world.own[member] * rng.standard_normal((rows, classes))
        logits += world.taste[member]
        logits[np.arange(rows), labels] += world.bonus[member]
        logits *= world.sharp[member]
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        probs[member] = logits / logits.sum(axis=1, keepdims=True)
    return Sample(probs, labels, groups)


def library_of(sample: Sample, grouped: bool, rng: np.random.Generator) -> Library:
    """With folds drawn by whole group."""
    members, rows, classes = sample.probs.shape
    n_groups = int(sample.groups.max()) + 1
    folds = rng.permutation(np.arange(n_groups) % FOLDS)[sample.groups]
    return Library(
        names=tuple(f"c{member:02d}" for member in range(members)),
        classes=tuple(f"class {number}" for number in range(classes)),
        ids=np.array([f"row {row}" for row in range(rows)], dtype=object),
        labels=sample.labels,
        folds=folds.astype(np.int16),
        p_true=np.ascontiguousarray(sample.probs[:, np.arange(rows), sample.labels]),
        probs=sample.probs,
        groups=sample.groups.astype(str).astype(object) if grouped else None,
    )


def judged(task: int, settings: BlendSettings, fresh_rows: int = FRESH_ROWS) -> Verdict:
    """One task, from its number alone."""
    rng = np.random.default_rng([task, 20_261_121])
    world = made_world(rng)
    library = library_of(drawn(world, int(rng.integers(400, 1501)), rng), world.grouped, rng)
    blend = fit_library(library, settings).blend
    metric = get_metric(settings.metric)
    labels, predicted, equal = [], [], []
    for _ in range(max(1, fresh_rows // FRESH_BLOCK)):
        fresh = drawn(world, min(FRESH_BLOCK, fresh_rows), rng)
        members = zip(library.names, fresh.probs, strict=True)
        labels.append(fresh.labels)
        predicted.append(blend.combine({name: proba[None] for name, proba in members}))
        equal.append(fresh.probs.mean(axis=0))
    truth = np.concatenate(labels)
    nested = blend.score
    assert library.probs is not None
    assert nested.low is not None
    assert nested.high is not None
    return Verdict(
        task=task,
        method=blend.method,
        nested=nested.value,
        low=nested.low,
        high=nested.high,
        in_sample=blend.in_sample,
        fresh=metric(truth, np.concatenate(predicted)),
        luck=metric(truth, np.concatenate(equal))
        - metric(library.labels, library.probs.mean(axis=0)),
        grouped=world.grouped,
    )


def usual(metric: str) -> BlendSettings:
    """The defaults, but for what says nothing about the score: fewer resamples, no refits, no
    leave-one-out."""
    return BlendSettings(metric=metric, bootstrap=500, refits=0, explain=False)


def study(
    tasks: int, settings: BlendSettings, processes: int = 1, fresh_rows: int = FRESH_ROWS
) -> Iterator[Verdict]:
    """The verdicts of tasks 0 to `tasks` - 1, in order."""
    one = partial(judged, settings=settings, fresh_rows=fresh_rows)
    if processes == 1:
        yield from map(one, range(tasks))
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(one, range(tasks))


def report(metric: str, verdicts: Sequence[Verdict]) -> str:
    """A few lines of text. The gaps say how much better a score is than what the same blend gets on
    fresh rows; the equal mean's gap is taken off, which is the sample's luck and nobody's merit."""
    n, held = len(verdicts), sum(verdict.covered for verdict in verdicts)
    loss = get_metric(metric).loss
    nested = np.array([loss(v.fresh - v.nested - v.luck) for v in verdicts])
    in_sample = np.array([loss(v.fresh - v.in_sample - v.luck) for v in verdicts])
    width = float(np.mean([v.high - v.low for v in verdicts]))
    above = sum(loss(v.fresh) > max(loss(v.low), loss(v.high)) for v in verdicts)
    methods = sorted({v.method for v in verdicts})
    chosen = ", ".join(f"{m} {sum(v.method == m for v in verdicts)}" for m in methods)
    lines = [
        f"{metric}: the 95 % interval held the fresh score in {held} of {n} tasks: {held / n:.1%}",
        f"  worse than the interval {above} times, better {n - held - above} times",
        f"  the nested score flatters by {_mean(nested)}",
        f"  the in-sample score flatters by {_mean(in_sample)}",
        f"  mean width of the interval {width:.4f}; kept blends: {chosen}",
    ]
    grouped = [v for v in verdicts if v.grouped]
    if grouped:
        held = sum(v.covered for v in grouped)
        lines.append(f"  in the {len(grouped)} tasks with groups: {held / len(grouped):.1%}")
    return "\n".join(lines)


def _mean(gaps: np.ndarray) -> str:
    error = gaps.std(ddof=1) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.nan
    return f"{gaps.mean():+.5f} on average (standard error {error:.5f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--metric", action="append", help="log_loss; may be given several times")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="a line for every task")
    asked = parser.parse_args()
    for metric in asked.metric or ["log_loss"]:
        started = time.perf_counter()
        verdicts = []
        for verdict in study(asked.tasks, usual(metric), asked.processes):
            verdicts.append(verdict)
            if asked.verbose:
                print(verdict, flush=True)
            elif sys.stderr.isatty() or len(verdicts) % 20 == 0:
                end = "\r" if sys.stderr.isatty() else "\n"
                print(f"[{len(verdicts)} of {asked.tasks}]", end=end, file=sys.stderr, flush=True)
        print(report(metric, verdicts))
        print(f"  {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
