"""What a search tells Prometheus, through Ray: a listener that sets Ray's gauges from the race.

Every number is read off the race as it stands, so a resumed search goes on where it was and counts
nothing twice. A name here appears in Prometheus with `ray_` before it, with the tags below, and
with those of Ray (node, session, worker).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tuner.journal import Record
from tuner.race import Race
from tuner.slots import Slots
from tuner.tally import BackboneTally, Tally, tally

# In Prometheus, what Ray puts before a name.
RAY_PREFIX = "ray_"

RUN, METRIC, BACKBONE = "run", "metric", "backbone"


@dataclass(frozen=True)
class Spec:
    """A gauge: its name, what it says, and its tags."""

    name: str
    description: str
    tags: tuple[str, ...] = (RUN,)


# One series a backbone: from a number of its tally.
BY_BACKBONE: Mapping[str, Spec] = {
    name: Spec(f"foldblend_{name}", description, (RUN, BACKBONE))
    for name, description in {
        "configurations": "Configurations proposed so far.",
        "fold_runs": "Fold runs that are over: finished, pruned, stopped or failed.",
        "fold_epochs": "Epochs of fold runs done so far.",
        "running": "Fold runs that run now.",
        "pruned": "Configurations pruned on the probe fold.",
        "promoted": "Configurations that earned their remaining folds.",
        "members": "Configurations whose folds are all finished.",
        "failed": "Configurations given up after an error.",
        "images_per_second": "Training images a second in the last epochs of what runs now.",
    }.items()
}
BACKBONE_BEST = Spec(
    "foldblend_backbone_best_score",
    "Best score on the probe fold of a backbone's finished configurations.",
    (RUN, METRIC, BACKBONE),
)
BEST = Spec(
    "foldblend_best_score",
    "Best score on the probe fold of any finished configuration.",
    (RUN, METRIC),
)
BLENDED = Spec(
    "foldblend_blended_score",
    "Nested score of a quick greedy blend of the members so far.",
    (RUN, METRIC),
)
HIGHER_IS_BETTER = Spec(
    "foldblend_higher_is_better", "1 where a higher score is the better one, else 0.", (RUN, METRIC)
)
SLOTS = Spec("foldblend_slots", "Fold runs that could run at once.")
IDLE = Spec("foldblend_idle_slots", "Slots in which no fold run runs.")
FAILURES = Spec("foldblend_failures", "Tries of fold runs that ended with an error.")
LOSSES = Spec("foldblend_lost_machines", "Fold runs that went away with their machine.")
GPU_MEMORY = Spec(
    "foldblend_gpu_memory_bytes",
    "The most GPU memory one running fold run took for tensors in its last epoch; 0 without GPU.",
)

SPECS = (
    *BY_BACKBONE.values(),
    *(BACKBONE_BEST, BEST, BLENDED, HIGHER_IS_BETTER),
    *(SLOTS, IDLE, FAILURES, LOSSES, GPU_MEMORY),
)


class Gauge(Protocol):
    def set(self, value: float, tags: dict[str, str]) -> None: ...


class Metrics:
    """A listener; needs a Ray that is connected when it is made. `run`: the run's name.
    `blend` gives the blended score so far, or None. `since`: older records only make the race."""

    def __init__(
        self,
        run: str,
        slots: Slots,
        *,
        since: float,
        blend: Callable[[], float | None] = lambda: None,
        make: Callable[[Spec], Gauge] | None = None,
    ) -> None:
        self._run, self._slots, self._since, self._blend = run, slots, since, blend
        self._gauges = {spec.name: (make or _ray_gauge)(spec) for spec in SPECS}

    def __call__(self, record: Record, race: Race) -> None:
        if record.time < self._since:
            return
        counts, slots = tally(race), self._slots.count
        for row in counts.backbones:
            self._set_backbone(row, race)
        self._set_scores(counts, race)
        self._set(SLOTS, slots)
        self._set(IDLE, max(0, slots - counts.total("running")))
        self._set(FAILURES, counts.failures)
        self._set(LOSSES, counts.losses)
        self._set(GPU_MEMORY, counts.gpu_memory_bytes or 0.0)

    def _set_backbone(self, row: BackboneTally, race: Race) -> None:
        for name, spec in BY_BACKBONE.items():
            self._set(spec, getattr(row, name), backbone=row.backbone)
        self._set(BACKBONE_BEST, row.best, metric=race.rules.metric, backbone=row.backbone)

    def _set_scores(self, counts: Tally, race: Race) -> None:
        rules = race.rules
        self._set(BEST, counts.best, metric=rules.metric)
        self._set(BLENDED, self._blend(), metric=rules.metric)
        self._set(HIGHER_IS_BETTER, float(rules.higher_is_better), metric=rules.metric)

    def _set(self, spec: Spec, value: float | None, **tags: str) -> None:
        """What is not known yet has no series at all, rather than a 0 that looks like a score."""
        if value is not None and math.isfinite(value):
            self._gauges[spec.name].set(float(value), tags={RUN: self._run, **tags})


def _ray_gauge(spec: Spec) -> Any:
    from ray.util.metrics import Gauge as RayGauge

    return RayGauge(spec.name, description=spec.description, tag_keys=spec.tags)
