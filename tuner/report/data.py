"""Everything that the page shows, gathered once as frozen values."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ensemble.blend_value import Blend, read_blend
from ensemble.errors import BlendError
from ensemble.metrics import get_metric
from trainables.errors import DataError
from trainables.folds import read_folds
from tuner import events as ev
from tuner.ledger import METRICS
from tuner.race import FoldRun, Status
from tuner.replayed import StoredRun
from tuner.report.curves import Curve, curves_of
from tuner.report.evidence import Evidence, read_evidence
from tuner.report.provenance import Provenance, provenance_of
from tuner.report.spending import Spending, spending_of
from tuner.report.thumbnails import first_ids, thumbnails
from tuner.run_directory import is_searched
from tuner.standings import (
    ConfigurationRow,
    Totals,
    configuration_rows,
    snapshots_of,
    totals,
)
from tuner.view import short_names

Progress = Callable[[str], None]

SHOWN_SUSPECTS, SHOWN_DUPLICATES = 24, 8  # with a thumbnail each, and two


@dataclass(frozen=True)
class Failure:
    """A fold run that failed for good."""

    config_id: str
    fold: int
    epoch: int
    failures: int
    error: str


@dataclass(frozen=True)
class ReportData:
    """`metric`: what the search followed (the blend names its own). `searched`: by config_id, the
    values that the sampler chose. `names`: a backbone's short name. `blend_problem`: why there is
    no blend although there is a file. `thumbnails`: by image id, None where there is no picture."""

    name: str
    made_at: float
    metric: str
    higher_is_better: bool
    max_epochs: int
    searching: bool
    rows: tuple[ConfigurationRow, ...]
    searched: Mapping[str, Mapping[str, object]]
    names: Mapping[str, str]
    totals: Totals
    failures: tuple[Failure, ...]
    blend: Blend | None
    blend_problem: str
    evidence: Evidence
    curves: tuple[Curve, ...]
    spending: Spending
    provenance: Provenance
    thumbnails: Mapping[str, str | None] = field(default_factory=dict)
    snapshots: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def backbone(self, config_id: str) -> str:
        """Short name of a configuration's backbone, with the point where it is a snapshot; ""
        where the race does not know it."""
        if config_id in self.snapshots:
            whole, number = self.snapshots[config_id]
            return f"{self.backbone(whole)}, snapshot {number}"
        found = next((row.backbone for row in self.rows if row.config_id == config_id), "")
        return self.names.get(found, found)

    @property
    def optimistic(self) -> frozenset[str]:
        """Configurations whose epoch was chosen on the validation fold."""
        return frozenset(row.config_id for row in self.rows if row.optimistic)


def gather(stored: StoredRun, *, progress: Progress | None = None) -> ReportData:
    """Read what the page needs. What is missing or damaged becomes a sentence on the page; only a
    run whose journal or run.yaml cannot be read is an error, and `stored` has read those."""
    say = progress or (lambda text: None)
    now = time.time()
    race = stored.race
    rows = tuple(configuration_rows(race, stored.configurations))
    blend, problem = _blend_of(stored)
    say("reading the analysis")
    evidence = read_evidence(stored.directory.root)
    say("making thumbnails")
    pictures = _thumbnails(stored, evidence)
    return ReportData(
        name=stored.directory.root.name,
        made_at=now,
        metric=race.rules.metric,
        higher_is_better=race.rules.higher_is_better,
        max_epochs=race.rules.max_epochs,
        searching=is_searched(stored.directory),
        rows=rows,
        searched=_searched(stored),
        names=short_names(row.backbone for row in rows),
        totals=totals(race, None),
        failures=tuple(_failure(run) for run in race.runs.values() if run.status is Status.FAILED),
        blend=blend,
        blend_problem=problem,
        evidence=evidence,
        curves=curves_of(stored.records, race),
        spending=spending_of(stored.records, race),
        provenance=provenance_of(stored),
        thumbnails=pictures,
        snapshots=snapshots_of(stored.configurations),
    )


def higher_is_better(metric: str) -> bool:
    """Also of a metric that only a blend follows; False for one that nobody knows any more."""
    try:
        return get_metric(metric).higher_is_better
    except ValueError:
        return metric in METRICS and metric != "log_loss"


def _blend_of(stored: StoredRun) -> tuple[Blend | None, str]:
    location = stored.directory.blend
    try:
        return read_blend(location), ""
    except FileNotFoundError:
        return None, ""
    except (BlendError, OSError) as error:
        return None, " ".join(str(error).split())


def _searched(stored: StoredRun) -> dict[str, Mapping[str, object]]:
    return {
        record.event.config_id: record.event.params
        for record in stored.records
        if isinstance(record.event, ev.Proposed)
    }


def _failure(run: FoldRun) -> Failure:
    return Failure(run.config_id, run.fold, run.epoch, run.failures, run.why)


def _thumbnails(stored: StoredRun, evidence: Evidence) -> Mapping[str, str | None]:
    ids = wanted_images(evidence)
    if not ids:
        return {}
    try:
        folds = read_folds(stored.directory.folds)
    except (DataError, OSError):
        return {}
    paths = dict(zip(folds.ids, folds.paths, strict=True))
    return thumbnails({name: paths[name] for name in ids if name in paths})


def wanted_images(evidence: Evidence) -> tuple[str, ...]:
    """The ids of the images that the page shows."""
    twins = [row for row in evidence.rows("duplicates") if not row["same_label"]]
    return first_ids(
        (row["id"] for row in evidence.rows("suspects")[:SHOWN_SUSPECTS]),
        (row[key] for row in twins[:SHOWN_DUPLICATES] for key in ("id_a", "id_b")),
    )
