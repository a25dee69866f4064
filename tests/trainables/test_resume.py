"""A fold run that was cut off anywhere goes on to the same files, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.config import Configuration
from tests.trainables.tiny_run import TinyRun, changed
from trainables import loop
from trainables.errors import DataError
from trainables.fold_files import WALL_CLOCK
from trainables.loop import FoldRun, run_fold
from trainables.precision import Precision
from trainables.task import EpochResult

EPOCHS = 3
KINDS: dict[str, dict[str, dict[str, object]]] = {
    "keep the last epoch": {},
    "keep the best epoch": {"train": {"keep": "best"}},
    "momentum and dropout": {
        "optimizer": {"name": "sgd", "lr": 0.05},
        "backbone": {"drop_rate": 0.5, "drop_path_rate": 0.2},
    },
    "an optimizer with much state": {"optimizer": {"name": "lion"}},
    "a vision transformer": {"backbone": {"name": "test_vit"}, "train": {"image_size": 64}},
    "an exponential average": {"averaging": {"name": "ema", "decay": 0.9}},
    "an equal average": {"averaging": {"name": "swa", "swa_from": 0.3}},
    "the best epoch of an average": {"averaging": {"name": "ema"}, "train": {"keep": "best"}},
    "mixed labels": {"augment": {"mixup": 0.5, "cutmix": 0.5}},
    "a policy": {"augment": {"policy": "randaugment"}},
    "gradual unfreezing": {"backbone": {"freeze_epochs": 1, "unfreeze": "gradual"}},
    "a plateau": {"schedule": {"name": "plateau", "plateau_patience": 1}},
    "micro-batches": {"train": {"micro_batch": 3}, "backbone": {"drop_rate": 0.5}},
    "a margin": {"loss": {"name": "adaface", "label_smoothing": 0.0}},
    "two backbones": {"backbone": {"second": "test_byobnet"}},
    "views": {"tta": {"horizontal_flip": True, "training": 2}},
    "penalties": {"optimizer": {"l1": 1e-4, "l2": 1e-3}},
}


def three_epochs(run: TinyRun, **groups: dict[str, object]) -> Configuration:
    return changed(changed(run.configuration, **groups), train={"epochs": EPOCHS})


def results_until(results: Iterator[EpochResult], epoch: int) -> list[EpochResult]:
    """As a worker that is killed after `epoch`."""
    found = [next(results) for _ in range(epoch)]
    results.close()  # type: ignore[attr-defined]
    return found


def plain(results: list[EpochResult]) -> list[dict[str, float]]:
    return [
        {name: value for name, value in result.metrics.items() if name not in WALL_CLOCK}
        for result in results
    ]


@pytest.fixture
def uninterrupted(prepared_run: TinyRun, tmp_path: Path) -> TinyRun:
    return prepared_run.copy(tmp_path / "uninterrupted")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stopped_after", [1, 2])
def test_stopping_after_any_epoch_changes_nothing(
    tiny_run: TinyRun, uninterrupted: TinyRun, kind: str, stopped_after: int
) -> None:
    chosen = three_epochs(tiny_run, **KINDS[kind])
    whole = uninterrupted.finish(uninterrupted.task(configuration=chosen))
    task = tiny_run.task(configuration=chosen)
    before = results_until(run_fold(task, tiny_run.data), stopped_after)
    rest = tiny_run.finish(tiny_run.task(configuration=chosen, reported_epochs=stopped_after))
    assert [result.epoch for result in before + rest] == [1, 2, 3]
    assert plain(before + rest) == plain(whole)
    assert tiny_run.files(task) == uninterrupted.files(uninterrupted.task(configuration=chosen))


def test_stopping_after_every_epoch_changes_nothing(
    tiny_run: TinyRun, uninterrupted: TinyRun
) -> None:
    chosen = three_epochs(tiny_run)
    uninterrupted.finish(uninterrupted.task(configuration=chosen))
    task = tiny_run.task(configuration=chosen)
    for reported in range(EPOCHS):
        results = tiny_run.task(configuration=chosen, reported_epochs=reported)
        results_until(run_fold(results, tiny_run.data), 1)
    assert tiny_run.files(task) == uninterrupted.files(uninterrupted.task(configuration=chosen))


def test_the_best_epoch_so_far_survives_a_kill(
    tiny_run: TinyRun, uninterrupted: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FoldRun._scores

    def scores(run: FoldRun, proba: np.ndarray) -> dict[str, float]:
        return real(run, proba) | {"log_loss": float(run.epoch)}

    monkeypatch.setattr(FoldRun, "_scores", scores)
    chosen = three_epochs(tiny_run, train={"keep": "best"})
    uninterrupted.finish(uninterrupted.task(configuration=chosen))
    task = tiny_run.task(configuration=chosen)
    results_until(run_fold(task, tiny_run.data), 2)
    assert tiny_run.finish(task)[-1].metrics["best_epoch"] == 1.0
    assert tiny_run.files(task) == uninterrupted.files(uninterrupted.task(configuration=chosen))


def test_what_was_computed_but_not_reported_is_reported_without_training(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = three_epochs(tiny_run)
    first = results_until(run_fold(tiny_run.task(configuration=chosen), tiny_run.data), 2)
    trained: list[int] = []
    real = FoldRun._train_epoch

    def train_epoch(run: FoldRun) -> float:
        trained.append(run.epoch)
        return real(run)

    monkeypatch.setattr(FoldRun, "_train_epoch", train_epoch)
    for reported in (1, 0):
        task = tiny_run.task(configuration=chosen, reported_epochs=reported)
        again = results_until(run_fold(task, tiny_run.data), 2 - reported)
        assert again == first[reported:]
    assert trained == []
    rest = tiny_run.finish(tiny_run.task(configuration=chosen, reported_epochs=1))
    assert [result.epoch for result in rest] == [2, 3]
    assert trained == [3]


def test_a_complete_fold_run_is_only_reported(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = tiny_run.finish()[-1]
    before = tiny_run.files()

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is to be built")

    monkeypatch.setattr(loop, "FoldRun", refuse)
    again = tiny_run.finish()
    assert [(result.epoch, result.done) for result in again] == [(2, True)]
    assert plain(again) == plain([done])
    assert tiny_run.files() == before


def test_a_checkpoint_that_was_left_beside_finished_files_goes(tiny_run: TinyRun) -> None:
    task = tiny_run.task()
    tiny_run.finish(task)
    tiny_run.paths.checkpoint(task.config_id, 0).write_bytes(b"left by a kill")
    tiny_run.finish(task)
    assert not tiny_run.paths.checkpoint_folder(task.config_id, 0).exists()


def test_half_a_checkpoint_is_ignored(
    tiny_run: TinyRun, uninterrupted: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the second checkpoint is written: the first one counts."""
    chosen = three_epochs(tiny_run)
    uninterrupted.finish(uninterrupted.task(configuration=chosen))
    task = tiny_run.task(configuration=chosen)
    results = run_fold(task, tiny_run.data)
    next(results)
    folder = tiny_run.paths.checkpoint_folder(task.config_id, 0).local_path
    whole = (folder / "last.pt").read_bytes()

    def killed(source: str, target: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            next(results)
    (folder / ".last.pt.0123456789ab").write_bytes(whole[: len(whole) // 2])
    rest = tiny_run.finish(tiny_run.task(configuration=chosen, reported_epochs=1))
    assert [result.epoch for result in rest] == [2, 3]
    assert tiny_run.files(task) == uninterrupted.files(uninterrupted.task(configuration=chosen))
    assert not folder.exists()


def test_a_kill_between_the_last_files_is_made_good(
    tiny_run: TinyRun, uninterrupted: TinyRun
) -> None:
    """Out-of-fold rows come last: without them the last epoch is trained again."""
    uninterrupted.finish()
    task = tiny_run.task()
    results_until(run_fold(task, tiny_run.data), 1)
    tiny_run.paths.weights(task.config_id, 0).write_bytes(b"half of the weights")
    tiny_run.store.fold_location("test", task.config_id, 0).write_bytes(b"half of the rows")
    rest = tiny_run.finish(tiny_run.task(reported_epochs=1))
    assert [(result.epoch, result.done) for result in rest] == [(2, True)]
    assert tiny_run.files() == uninterrupted.files()


def test_files_appear_in_the_order_that_makes_present_mean_complete(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    real = os.replace

    def replace(source: str, target: str) -> None:
        written.append(os.path.relpath(target, tiny_run.root).split(os.sep)[0])
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    tiny_run.finish()
    assert written == ["checkpoints", "weights", "test", "oof"]


def test_a_lost_checkpoint_starts_over_and_repeats_no_report(
    tiny_run: TinyRun, uninterrupted: TinyRun
) -> None:
    uninterrupted.finish()
    task = tiny_run.task()
    results_until(run_fold(task, tiny_run.data), 1)
    tiny_run.paths.checkpoint_folder(task.config_id, 0).delete()
    rest = tiny_run.finish(tiny_run.task(reported_epochs=1))
    assert [result.epoch for result in rest] == [2]
    assert tiny_run.files() == uninterrupted.files()


def test_a_damaged_checkpoint_is_one_line_that_says_what_to_do(tiny_run: TinyRun) -> None:
    task = tiny_run.task()
    results_until(run_fold(task, tiny_run.data), 1)
    location = tiny_run.paths.checkpoint(task.config_id, 0)
    location.write_bytes(location.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"last\.pt: cannot be read as a checkpoint.*delete it"):
        tiny_run.finish(task)


@pytest.mark.parametrize(("before", "after"), [("bf16", "fp16"), ("fp16", "bf16")])
def test_it_goes_on_where_another_gpu_computes_in_another_format(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, before: Any, after: Any
) -> None:
    """`auto` on an older GPU is fp16, whose gradients are scaled; the others' have no scale."""
    formats = {"now": before}
    monkeypatch.setattr(loop, "choose_precision", lambda asked, device: Precision(formats["now"]))
    task = tiny_run.task()
    results_until(run_fold(task, tiny_run.data), 1)
    formats["now"] = after
    run = FoldRun(task, tiny_run.data, torch.device("cpu"))
    assert [one.epoch for one in run.restore()] == [1]
    assert run.next_epoch().epoch == 2
