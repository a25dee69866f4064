"""What a person wants to know of a race, as frozen numbers; `view.py` draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.config import Configuration
from tuner.race import PROBE_FOLD, Done, FoldRun, Race, Status


@dataclass(frozen=True)
class BackboneRow:
    """Counts of configurations of one backbone, and the best probe-fold score so far."""

    backbone: str
    proposed: int
    running: int
    pruned: int
    promoted: int
    members: int
    failed: int
    best: float | None


@dataclass(frozen=True)
class ConfigurationRow:
    """`score`: mean over the finished folds, `folds_done` of `n_folds`; `probe`: the last score
    on the probe fold. `optimistic`: its epoch was chosen on the validation fold."""

    config_id: str
    backbone: str
    state: str
    score: float | None
    probe: float | None
    folds_done: int
    n_folds: int
    why: str
    optimistic: bool


@dataclass(frozen=True)
class Totals:
    """Fold-epochs spent, and the most that will be (None where nobody can know, what was spent
    once the race is over); `seconds_left` is None before there is anything to judge from."""

    configurations: int
    configurations_planned: int | None
    fold_epochs: int
    fold_epochs_planned: int | None
    running: int
    members: int
    members_wanted: int
    failures: int
    seconds_left: float | None


def backbone_rows(race: Race) -> list[BackboneRow]:
    names = sorted({entrant.backbone for entrant in race.entrants.values()})
    return [_backbone_row(race, name) for name in names]


def configuration_rows(
    race: Race, configurations: Mapping[str, Mapping[str, Any]]
) -> list[ConfigurationRow]:
    """Members first, best first; then by how far a configuration came and its probe score."""
    members = set(race.members)
    rows = [
        _configuration_row(race, one, configurations.get(one, {}), one in members)
        for one in race.entrants
    ]

    def order(row: ConfigurationRow) -> tuple[bool, int, float]:
        score = row.score if row.score is not None else row.probe
        loss = math.inf if score is None else race.rules.loss(score)
        return (row.folds_done < row.n_folds, -row.folds_done, loss)

    return sorted(rows, key=order)


def totals(race: Race, slots: int | None) -> Totals:
    planned = _planned_fold_epochs(race)
    spent = race.fold_epochs_spent
    return Totals(
        configurations=len(race.entrants),
        configurations_planned=race.rules.configurations,
        fold_epochs=spent,
        fold_epochs_planned=planned,
        running=race.in_flight,
        members=len(race.members),
        members_wanted=race.rules.members,
        failures=sum(run.failures for run in race.runs.values()),
        seconds_left=_seconds_left(race, planned, slots),
    )


def is_optimistic(configuration: Mapping[str, Any]) -> bool:
    """Whether its epoch was chosen on the validation fold, which flatters its scores there."""
    train = configuration.get("train", {})
    return train.get("keep") == "best" or bool(train.get("patience"))


def snapshots_of(
    configurations: Mapping[str, Mapping[str, Any]],
) -> dict[str, tuple[str, int]]:
    """By the id under which it is stored: the configuration whose run a snapshot is of, and which
    point of it. The race knows the configuration, the store and the blend know the snapshots."""
    found = {}
    for config_id, values in configurations.items():
        points = values.get("averaging", {}).get("snapshots", 1)
        if points > 1:
            one = Configuration.model_validate(values)
            for number in range(1, points):
                found[one.at_snapshot(number).config_id] = (config_id, number)
    return found


def _backbone_row(race: Race, name: str) -> BackboneRow:
    mine = {key for key, one in race.entrants.items() if one.backbone == name}
    runs = [run for run in race.runs.values() if run.config_id in mine]
    probes = [run for run in runs if run.fold == PROBE_FOLD]
    finished = [run.metrics[race.rules.metric] for run in probes if run.status is Status.FINISHED]
    return BackboneRow(
        backbone=name,
        proposed=len(mine),
        running=sum(run.status is Status.RUNNING for run in runs),
        pruned=sum(run.status is Status.PRUNED for run in probes),
        promoted=sum(race.entrants[key].promoted for key in mine),
        members=sum(key in mine for key in race.members),
        failed=sum(race.entrants[key].failed for key in mine),
        best=min(finished, key=race.rules.loss) if finished else None,
    )


def _configuration_row(
    race: Race, config_id: str, configuration: Mapping[str, Any], is_member: bool
) -> ConfigurationRow:
    entrant, metric = race.entrants[config_id], race.rules.metric
    runs = _runs_of(race, config_id)
    done = [run.metrics[metric] for run in runs if run.status is Status.FINISHED]
    probe = race.runs[config_id, PROBE_FOLD]
    return ConfigurationRow(
        config_id=config_id,
        backbone=entrant.backbone,
        state="member" if is_member else _state(race, config_id),
        score=sum(done) / len(done) if done else None,
        probe=probe.values[-1] if probe.values else None,
        folds_done=len(done),
        n_folds=race.rules.n_folds,
        why=_why(runs),
        optimistic=is_optimistic(configuration),
    )


def _state(race: Race, config_id: str) -> str:
    entrant, probe = race.entrants[config_id], race.runs[config_id, PROBE_FOLD]
    if entrant.failed:
        return "failed"
    return "promoted" if entrant.promoted else str(probe.status)


def _runs_of(race: Race, config_id: str) -> list[FoldRun]:
    """By fold; the probe fold is always there."""
    folds = range(race.rules.n_folds)
    return [run for fold in folds if (run := race.runs.get((config_id, fold)))]


def _why(runs: Sequence[FoldRun]) -> str:
    for run in runs:
        if run.status is Status.FAILED:
            return f"fold {run.fold}: {run.why}"
    probe = runs[PROBE_FOLD]
    return probe.why if probe.status in (Status.PRUNED, Status.STOPPED) else ""


def _planned_fold_epochs(race: Race) -> int | None:
    """The most that will be spent if no promoted configuration fails from here on. What pruning
    saved already is taken off."""
    rules = race.rules
    if isinstance(race.next_work(race.in_flight + 1), Done):
        return race.fold_epochs_spent
    if rules.fold_epochs is not None and rules.configurations is None:
        return rules.fold_epochs
    if rules.configurations is None:
        return None
    coming = rules.configurations - len(race.entrants) if race.exploring else 0
    promotions = min(_members_missing(race), _may_be_promoted(race) + coming)
    known = sum(
        run.epoch if run.is_over else race.entrants[run.config_id].epochs
        for run in race.runs.values()
    )
    most = known + rules.max_epochs * (coming + promotions * (rules.n_folds - 1))
    return most if rules.fold_epochs is None else min(most, rules.fold_epochs)


def _members_missing(race: Race) -> int:
    """A promoted configuration that failed leaves its place to another."""
    held = sum(one.promoted and not one.failed for one in race.entrants.values())
    return max(0, race.rules.members - held)


def _may_be_promoted(race: Race) -> int:
    probes = [
        race.runs[key, PROBE_FOLD]
        for key, entrant in race.entrants.items()
        if not entrant.promoted and not entrant.failed
    ]
    return sum(not run.is_over or run.status is Status.FINISHED for run in probes)


def _seconds_left(race: Race, planned: int | None, slots: int | None) -> float | None:
    spent = race.fold_epochs_spent
    seconds = sum(run.seconds for run in race.runs.values())
    if planned is None or not seconds or not spent or not slots:
        return None
    return max(0, planned - spent) * seconds / spent / slots
