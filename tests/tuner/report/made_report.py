"""A report by hand: a make-believe race, a blend with every part, tables of three classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.blend_value import (
    AppliedRules,
    Blend,
    BlendMember,
    JudgedScore,
    MethodScore,
    NestedScores,
    Score,
    SecondBlend,
    SingleScore,
    Stability,
    Stage,
)
from ensemble.calibration import Calibration
from ensemble.combine import Combination
from tests.tuner.made_runs import made_run, made_world
from tests.tuner.simulation import World
from tuner.race import Race
from tuner.replayed import StoredRun, read_run
from tuner.report.data import ReportData, gather

CLASSES = ("cat", "dog", "owl")
HOSTILE = '<script>alert("x")</script>'


def score(value: float) -> Score:
    return Score(value, value - 0.01, value + 0.01)


def judged(value: float, outside: float, half: float = 0.02) -> JudgedScore:
    return JudgedScore(value, value - half, value + half, score(outside))


def report_blend(
    members: Sequence[str] = ("c0", "c1", "c2"),
    *,
    classes: tuple[str, ...] = CLASSES,
    **changes: Any,
) -> Blend:
    """Weights 0.7, 0.3, 0, …; ensemble 0.3123 against 0.4017, 0.3301 without the probe fold."""
    weights = [0.7, 0.3, *[0.0] * (len(members) - 2)] if len(members) > 1 else [1.0]
    single = judged(0.4017, 0.4101)
    values: dict[str, Any] = {
        "metric": "log_loss",
        "method": "greedy",
        "classes": classes,
        "members": tuple(
            BlendMember(
                name,
                weight,
                1.25,
                0.41,
                0.41,
                0.9,
                0.9,
                Stability(weight, max(0.0, weight - 0.1), weight + 0.05, 0.85, 20),
                0.3456 if weight else None,
                0.012,
            )
            for name, weight in zip(members, weights, strict=True)
        ),
        "nested": NestedScores(
            judged(0.3123, 0.3301),
            SingleScore(single.value, single.low, single.high, single.without_probe_fold, "c0"),
            judged(-0.0894, -0.08),
        ),
        "methods": (
            MethodScore(
                "greedy", 0.3123, 0.3301, 0.2987, dict(zip(members, weights, strict=True)), 0.0, 0.0
            ),
            MethodScore(
                "equal", 0.3333, 0.3404, 0.3311, dict.fromkeys(members, 1 / 3), 0.021, 0.005
            ),
        ),
        "metrics": {"blend": {"accuracy": 0.9512}, "best_single": {"accuracy": 0.9101}},
        "in_sample": 0.2987,
        "n_rows": 120,
        "n_folds": 3,
        "probe_fold": 0,
        "confidence": 0.95,
        "bootstrap": 200,
        "combination": Combination("mean", np.array(weights)),
        "calibration": Calibration("temperature", 1.3),
        "groups": (SecondBlend((0, 1), tuple(weights)),),
        "rules": AppliedRules("words.csv", 12, 0.55),
        "stages": (Stage("weights", 0.33), Stage("calibration", 0.3123)),
        "choice": "greedy: the best nested log_loss, chosen among it and equal",
        "certificate": 2.5e-7,
    }
    return Blend(**(values | changes))


def tables(members: Sequence[str], classes: Sequence[str] = CLASSES) -> dict[str, list[dict]]:
    """Rows of every table that the page reads."""
    first, second = members[0], members[1]
    worst_first = list(enumerate(classes))
    models = ("blend", *members)
    return {
        "per_class": [
            {"model": m, "class": c, "rows": 40, "recall": 0.5 + 0.4 * i / len(classes),
             "precision": 0.8, "f1": 0.7}
            for m in models for i, c in worst_first
        ],
        "confused_pairs": [
            {"model": "blend", "true_class": classes[0], "predicted_class": classes[1],
             "count": 7, "share": 0.175, "mean_probability": 0.6}
        ],
        "confusion": [
            {"true_class": c, "predicted_class": c, "count": 30} for c in classes
        ] + [{"true_class": classes[0], "predicted_class": classes[1], "count": 10}],
        "best_member": [
            {"class": c, "member": second, "recall": 0.95, "blend_recall": 0.5, "f1": 0.9,
             "blend_f1": 0.7, "gain": 0.2}
            for c in classes
        ],
        "agreement": [
            {"member_a": first, "member_b": second, "agreement": 0.9, "error_correlation": 0.42,
             "both_wrong": 0.03, "same_wrong": 0.02, "loss_correlation": 0.5}
        ],
        "members": [
            {"name": m, "weight": 0.5, "log_loss": 0.4, "accuracy": 0.9, "macro_f1": 0.9,
             "ece": 0.03, "only_right": 0.01, "decided_alone": 0.02}
            for m in members
        ],
        "suspects": [
            {"rank": r + 1, "id": f"img{r}", "label": classes[0], "suggested": classes[1],
             "p_label": 0.02, "p_suggested": 0.91, "margin": 0.89, "members_wrong": 3, "members": 3,
             "all_wrong": True, "confident_learning": True}
            for r in range(60)
        ],
        "mergeable": [
            {"class_a": classes[0], "class_b": classes[1], "rows_a": 40, "rows_b": 40,
             "a_as_b": 0.25, "b_as_a": 0.2, "mutual": 0.2, "auc": None}
        ],
        "reliability": [
            {"model": m, "bin": b, "low": b / 2, "high": (b + 1) / 2, "confidence": 0.25 + b / 2,
             "accuracy": 0.35 + b / 2, "rows": 60}
            for m in models for b in range(2)
        ],
        "reliability_before": [
            {"model": "blend", "bin": 0, "low": 0.0, "high": 1.0, "confidence": 0.7,
             "accuracy": 0.5, "rows": 120}
        ],
        "fold_scores": [
            {"model": m, "fold": f, "rows": 40, "log_loss": 0.3 + f / 10, "accuracy": 0.9,
             "macro_f1": 0.9}
            for m in models for f in range(3)
        ],
        "duplicates": [
            {"id_a": f"img{r}", "id_b": f"twin{r}", "label_a": classes[0], "label_b": classes[1],
             "distance": r, "same_label": False}
            for r in range(30)
        ],
    }  # fmt: skip


def write_tables(root: Path, rows: Mapping[str, list[dict]]) -> None:
    (root / "analysis").mkdir(parents=True, exist_ok=True)
    for name, content in rows.items():
        pq.write_table(pa.Table.from_pylist(content), root / "analysis" / f"{name}.parquet")


def finished_world() -> World:
    """Nine configurations of three backbones; c1 failed for good."""
    world = made_world()
    return World(Race(world.race.rules), fail={("c1", 0): 9}).run()


def stored_run(root: Path, world: World | None = None) -> StoredRun:
    made_run(root, world or finished_world())
    return read_run(str(root))


def report_data(root: Path) -> ReportData:
    """A finished run with tables and a blend (which has not been written)."""
    stored = stored_run(root)
    write_tables(root, tables(stored.race.members))
    return replace(gather(stored), blend=report_blend(stored.race.members))


@dataclass
class Page(HTMLParser):
    """A parsed page: (tag, attributes) of every element, and its text by section."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    unclosed: list[str] = field(default_factory=list)

    VOID = frozenset({"meta", "img", "br", "link", "input", "path"})

    def __post_init__(self) -> None:
        super().__init__()
        self._section = "head"
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag not in self.VOID:
            self.unclosed.append(tag)
        if tag == "section":
            self._section = values["id"] or ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        assert self.unclosed.pop() == tag
        if tag == "section":
            self._section = "after"

    def handle_data(self, data: str) -> None:
        self.texts[self._section] = self.texts.get(self._section, "") + data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [values for name, values in self.tags if name == tag]

    def text(self, section: str) -> str:
        return " ".join(self.texts[section].split())
