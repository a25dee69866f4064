from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import BlendError
from ensemble.metrics import LOG_LOSS
from ensemble.predictions import Predictions
from ensemble.store import OofStore, StoreMetadata, write_predictions
from tests.tuner.simulation import rules
from tuner import blend_so_far
from tuner import events as ev
from tuner.blend_so_far import BlendSoFar, blended_score
from tuner.journal import Record
from tuner.race import Race
from tuner.run_directory import RunDirectory

FOLDS, ROWS, CLASSES = 3, 40, 2


def run_with(root: Path, members: Sequence[str]) -> RunDirectory:
    """Members that are right by chance, each in its own way."""
    run = RunDirectory.of(str(root))
    for number, name in enumerate(members):
        for fold in range(FOLDS):
            add(run, name, fold, seed=10 * number + fold)
    return run


def add(run: RunDirectory, name: str, fold: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = (np.arange(ROWS) % CLASSES).astype(np.int32)
    right = draw.uniform(0.2, 0.99, ROWS)
    proba = np.where(labels[:, None] == np.arange(CLASSES), right[:, None], 1 - right[:, None])
    predictions = Predictions(
        ids=np.array([f"{fold}-{row}" for row in range(ROWS)], dtype=object),
        labels=labels,
        folds=np.full(ROWS, fold, np.int16),
        proba=proba.astype(np.float32),
    )
    metadata = StoreMetadata(("cat", "dog"), name, {}, {}, "0")
    write_predictions(OofStore(run.root).fold_location("oof", name, fold), predictions, metadata)


def scored(run: RunDirectory) -> float | None:
    return blended_score(run, n_folds=FOLDS, metric="log_loss")


def test_one_member_scores_as_itself(tmp_path: Path) -> None:
    run = run_with(tmp_path, ["c0"])
    member = OofStore(run.root).read_member("c0")
    assert scored(run) == pytest.approx(LOG_LOSS(member.labels, member.proba), rel=1e-6)


def test_members_that_err_elsewhere_blend_to_a_better_score(tmp_path: Path) -> None:
    together = scored(run_with(tmp_path / "two", ["c0", "c1"]))
    alone = scored(run_with(tmp_path / "one", ["c0"]))
    assert together is not None
    assert alone is not None
    assert together < alone


def test_a_configuration_without_all_its_folds_is_no_member(tmp_path: Path) -> None:
    run = run_with(tmp_path, ["c0"])
    before = scored(run)
    add(run, "c1", fold=0, seed=99)
    assert scored(run) == before
    assert scored(RunDirectory.of(str(tmp_path / "empty"))) is None


def test_where_it_would_take_much_memory_there_is_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_with(tmp_path, ["c0", "c1"])
    monkeypatch.setattr(blend_so_far, "MOST_VALUES", 2 * FOLDS * ROWS * CLASSES - 1)
    assert scored(run) is None


COMPLETE = Record(0, 0.0, ev.Finished("c0", 2, 4, {}), (ev.Complete("c0"),))
NOTHING = Record(0, 0.0, ev.SlotIdle())


def so_far(run: RunDirectory, now: list[float] | None = None) -> BlendSoFar:
    times = now or [0.0]
    return BlendSoFar(run, n_folds=FOLDS, metric="log_loss", clock=lambda: times[0])


def test_the_score_follows_the_members(tmp_path: Path) -> None:
    run, race = run_with(tmp_path, ["c0"]), Race(rules())
    with so_far(run) as blend:
        blend(NOTHING, race)
        assert blend.score() is None
        blend(COMPLETE, race)
    assert blend.score() == scored(run)


def test_it_takes_a_small_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[float] = []
    now = [0.0]

    def slow(run: RunDirectory, **how: object) -> float:
        fits.append(now[0])
        now[0] += 6.0
        return float(len(fits))

    monkeypatch.setattr(blend_so_far, "blended_score", slow)
    blend, race = so_far(RunDirectory.of(str(tmp_path)), now), Race(rules())
    for seconds in (0.0, 30.0, 59.0, 61.0, 62.0):
        now[0] = max(now[0], seconds)
        blend(COMPLETE if seconds < 60.0 else NOTHING, race)
        blend.__exit__()
    assert fits == [0.0, 61.0]  # 6 s of every 60, and not for nothing
    assert blend.score() == 2.0


def test_nobody_waits_for_a_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def wait(run: RunDirectory, **how: object) -> float:
        assert go_on.wait(60)
        return 0.5

    monkeypatch.setattr(blend_so_far, "blended_score", wait)
    with so_far(RunDirectory.of(str(tmp_path))) as blend:
        blend(COMPLETE, Race(rules()))
        blend(COMPLETE, Race(rules()))
        assert blend.score() is None
        go_on.set()
    assert blend.score() == 0.5


def test_a_fit_that_fails_leaves_the_score_and_the_search_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, race = run_with(tmp_path, ["c0"]), Race(rules())
    now = [0.0]
    with so_far(run, now) as blend:
        blend(COMPLETE, race)
    before = blend.score()

    def fail(run: RunDirectory, **how: object) -> float:
        raise BlendError("rows contradict each other")

    monkeypatch.setattr(blend_so_far, "blended_score", fail)
    now[0] = 1e6
    with blend:
        blend(COMPLETE, race)
    assert blend.score() == before is not None
