"""The scores of a blend to believe, with their intervals: of itself, of the best single member, and
of their difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """A metric's value with its bootstrap interval (None where no resamples were asked for)."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class JudgedScore(Score):
    """Over all rows, and over the rows outside the probe fold: configurations were selected on
    the probe fold, which flatters them there."""

    without_probe_fold: Score


@dataclass(frozen=True)
class SingleScore(JudgedScore):
    """The best single member under the same treatment: chosen on the other folds, judged on the
    held-out one. `config_id` is the choice on all rows."""

    config_id: str


@dataclass(frozen=True)
class NestedScores:
    """The scores to believe. `difference` is blend minus best single in the metric's own units,
    on the same resamples."""

    blend: JudgedScore
    best_single: SingleScore
    difference: JudgedScore


def scores_from(data: Mapping[str, Any]) -> NestedScores:
    """From plain values, as `dataclasses.asdict` gives them. Raises KeyError or TypeError for
    anything else."""
    return NestedScores(
        blend=JudgedScore(**_judged(data["blend"])),
        best_single=SingleScore(**_judged(data["best_single"])),
        difference=JudgedScore(**_judged(data["difference"])),
    )


def _judged(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, "without_probe_fold": Score(**data["without_probe_fold"])}
