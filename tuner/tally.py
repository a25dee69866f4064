"""A race counted in one pass, for those who watch from outside: the progress line, the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tuner.race import PROBE_FOLD, FoldRun, Race, Status


@dataclass(frozen=True)
class BackboneTally:
    """One backbone. `configurations`, `pruned`, `promoted`, `members` and `failed` count
    configurations; `running` and `fold_runs` (those that are over) count fold runs. `best`: the
    best finished score on the probe fold. `images_per_second`: of what is running, together."""

    backbone: str
    configurations: int
    pruned: int
    promoted: int
    members: int
    failed: int
    running: int
    fold_runs: int
    fold_epochs: int
    best: float | None
    images_per_second: float


@dataclass(frozen=True)
class Tally:
    """The whole race. `failures`: tries that ended with an error; `losses`: fold runs that went
    away with their machine. `gpu_memory_bytes`: the most that one running fold run took on a GPU
    in its last epoch, None where none runs on one."""

    backbones: tuple[BackboneTally, ...]
    best: float | None
    failures: int
    losses: int
    gpu_memory_bytes: float | None

    def total(self, name: str) -> float:
        """The sum of a number over the backbones."""
        return sum(getattr(one, name) for one in self.backbones)


def tally(race: Race) -> Tally:
    """Count `race` as it stands."""
    runs: dict[str, list[FoldRun]] = {}
    for run in race.runs.values():
        runs.setdefault(race.entrants[run.config_id].backbone, []).append(run)
    rows = tuple(_backbone(race, name, runs[name]) for name in sorted(runs))
    running = _running(race.runs.values())
    memory = [one for run in running if (one := run.metrics.get("gpu_memory_bytes"))]
    return Tally(
        backbones=rows,
        best=_best(race, (row.best for row in rows)),
        failures=sum(run.failures for run in race.runs.values()),
        losses=sum(run.losses for run in race.runs.values()),
        gpu_memory_bytes=max(memory, default=None),
    )


def _backbone(race: Race, name: str, runs: list[FoldRun]) -> BackboneTally:
    probes = [run for run in runs if run.fold == PROBE_FOLD]
    finished = [run for run in runs if run.status is Status.FINISHED]
    folds_done = Counter(run.config_id for run in finished)
    entrants = [race.entrants[run.config_id] for run in probes]
    running = list(_running(runs))
    metric = race.rules.metric
    return BackboneTally(
        backbone=name,
        configurations=len(entrants),
        pruned=sum(run.status is Status.PRUNED for run in probes),
        promoted=sum(one.promoted for one in entrants),
        members=sum(count == race.rules.n_folds for count in folds_done.values()),
        failed=sum(one.failed for one in entrants),
        running=len(running),
        fold_runs=sum(run.is_over for run in runs),
        fold_epochs=sum(run.epoch for run in runs),
        best=_best(race, (run.metrics[metric] for run in finished if run.fold == PROBE_FOLD)),
        images_per_second=sum(run.metrics.get("images_per_second", 0.0) for run in running),
    )


def _running(runs: Iterable[FoldRun]) -> Iterator[FoldRun]:
    return (run for run in runs if run.status is Status.RUNNING)


def _best(race: Race, scores: Iterable[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return min(known, key=race.rules.loss, default=None)
