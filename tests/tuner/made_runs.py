"""Run directories without training: a make-believe race's journal, and a blend by hand."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console, RenderableType

from ensemble.blend_value import (
    Blend,
    BlendMember,
    JudgedScore,
    MethodScore,
    NestedScores,
    Score,
    SingleScore,
)
from ensemble.combine import Combination
from search_spaces.space import Study, load_study
from tests.tuner.simulation import World
from trainables.run_data import RUN_VERSION
from tuner import events as ev
from tuner.journal import Journal, Record
from tuner.prepare import max_epochs
from tuner.race import Race, Rules
from tuner.rules import rules_of
from tuner.run_directory import RunDirectory

START = 1_700_000_000.0
OVERRIDES = (
    *("experiment=scratch", "name=made", "data=csv", "data.path=train.csv", "folds.k=3"),
    *("train.epochs=4", "search.budget.configurations=9", "search.promotion.members=3"),
)


@cache
def made_study(*more: str) -> Study:
    return load_study([*OVERRIDES, *more])


def made_world(*more: str) -> World:
    """A world that runs by the rules of `made_study`."""
    study = made_study(*more)
    return World(Race(rules_of(study.run, max_epochs(study.space))))


def records_of(events: Sequence[ev.Event], rules: Rules) -> list[Record]:
    """The journal of these events, a second apart."""
    race = Race(rules)
    return [
        Record(number, START + number, event, tuple(race.apply(event)))
        for number, event in enumerate(events)
    ]


def made_run(root: Path, world: World, *more: str) -> RunDirectory:
    """A directory in which the world's events are a run's journal."""
    run = RunDirectory.of(str(root))
    study = made_study(*more)
    content = {
        "version": RUN_VERSION,
        "config": study.run.model_dump(mode="json"),
        "space": {"max_epochs": max_epochs(study.space)},
        "data": {
            "fingerprint": "0",
            "classes": ["cat", "dog"],
            "label_values": ["0", "1"],
            "cache_size": 32,
        },
    }
    run.run_yaml.write_text(yaml.safe_dump(content))
    journal = Journal(run.journal)
    for record in records_of(world.events, world.race.rules):
        journal.append(record)
    return run


def made_blend(members: Sequence[str] = ("c0", "c1"), *, intervals: bool = True) -> Blend:
    """A blend of equal weights that nobody fitted."""

    def score(value: float) -> Score:
        return Score(value, *((value - 0.01, value + 0.01) if intervals else (None, None)))

    def judged(value: float) -> JudgedScore:
        low_high = (value - 0.02, value + 0.02) if intervals else (None, None)
        return JudgedScore(value, *low_high, score(value + 0.001))

    single = judged(0.4)
    weight = 1.0 / len(members)
    return Blend(
        metric="log_loss",
        method="greedy",
        classes=("cat", "dog"),
        members=tuple(BlendMember(one, weight, 1.0, 0.4, 0.4, 0.9, 0.9) for one in members),
        nested=NestedScores(
            judged(0.3),
            SingleScore(single.value, single.low, single.high, single.without_probe_fold, "c0"),
            judged(-0.1),
        ),
        methods=(MethodScore("greedy", 0.3, 0.301, 0.29, dict.fromkeys(members, weight)),),
        metrics={},
        in_sample=0.29,
        n_rows=120,
        n_folds=3,
        probe_fold=0,
        confidence=0.95,
        bootstrap=200 if intervals else 0,
        combination=Combination("mean", np.full(len(members), weight)),
    )


def text_of(*renderables: RenderableType, width: int = 120) -> str:
    """What a terminal of `width` columns shows."""
    console = recorder(width)
    for one in renderables:
        console.print(one)
    return console.export_text()


def recorder(width: int = 120) -> Console:
    """A console that draws into memory; `export_text()` gives it back."""
    return Console(record=True, width=width, file=io.StringIO())
