"""The Ray edge, driven as an actor would, in this process and without a Ray."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.tune.trainable import trainable as tune_trainable

from tests.conftest import TinyImages
from tests.trainables.tiny_run import TinyRun, changed
from trainables import fold_trainable, loop
from trainables.failure import DivergedError
from trainables.fold_files import WALL_CLOCK
from trainables.fold_trainable import FoldTrainable
from trainables.run_data import RunData, load_run_data


@pytest.fixture(autouse=True)
def no_ray_and_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Trainable wants a folder for logs, and would take one in the user's home."""
    monkeypatch.setattr(tune_trainable, "DEFAULT_STORAGE_PATH", str(tmp_path / "logs"))


def without_clock(result: dict[str, Any]) -> dict[str, Any]:
    metrics = {k: v for k, v in result["metrics"].items() if k not in WALL_CLOCK}
    return result | {"metrics": metrics}


def test_a_step_is_an_epoch_and_the_last_one_is_done(
    tiny_run: TinyRun, prepared_run: TinyRun, tmp_path: Path
) -> None:
    plain = prepared_run.copy(tmp_path / "plain")
    expected = [{**one.to_dict(), "complete": one.done} for one in plain.finish()]
    actor = FoldTrainable(config=tiny_run.task().to_dict())
    steps = [actor.step() for _ in range(2)]
    assert [without_clock(step) for step in steps] == [without_clock(step) for step in expected]
    assert [step["done"] for step in steps] == [False, True]
    assert tiny_run.files() == plain.files()
    json.dumps(steps)  # plain values travel
    assert not ray.is_initialized()


def test_an_actor_goes_on_with_another_fold_and_loads_the_run_once(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []

    def load(run: str, progress: object) -> RunData:
        loads.append(run)
        return load_run_data(run)

    fold_trainable.shared_run_data.cache_clear()
    monkeypatch.setattr("trainables.run_data.load_run_data", load)
    actor = FoldTrainable(config=tiny_run.task(0).to_dict())
    actor.step()  # stopped by the search after one epoch
    for fold in (1, 2):
        assert actor.reset_config(tiny_run.task(fold).to_dict()) is True
        assert actor.step()["done"] is False
        assert actor.step()["done"] is True
    assert loads == [str(tiny_run.root)]
    stored = [tiny_run.store.has("oof", tiny_run.task().config_id, fold) for fold in range(3)]
    assert stored == [False, True, True]
    actor.reset_config(replace(tiny_run.task(0), reported_epochs=1).to_dict())
    assert actor.step()["epoch"] == 2


def test_a_failure_is_a_result_and_the_actor_lives_on(tiny_run: TinyRun) -> None:
    chosen = changed(tiny_run.configuration, optimizer={"name": "adamww"})
    actor = FoldTrainable(config=tiny_run.task(configuration=chosen).to_dict())
    result = actor.step()
    assert result["done"] is True
    assert result["failure"]["kind"] == "fatal"
    assert result["failure"]["message"].startswith("optimizer.name=adamww: timm")
    assert "OptimizerError" in result["failure"]["traceback"]
    json.dumps(result)
    actor.reset_config(tiny_run.task().to_dict())
    assert actor.step()["epoch"] == 1


def test_an_actor_is_named_after_its_first_fold_run_and_its_process_after_the_present_one(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray._raylet, "setproctitle", titles.append)
    first, second = tiny_run.task(0), tiny_run.task(1)
    actor = FoldTrainable(config=first.to_dict())
    assert repr(actor) == f"{first.name} (first)"
    actor.step()
    actor.reset_config(second.to_dict())
    actor.step()
    assert titles == [f"ray::{first.name}", f"ray::{second.name}"]


def test_outside_ray_the_process_keeps_its_title(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(ray._raylet, "setproctitle", titles.append)
    FoldTrainable(config=tiny_run.task().to_dict()).step()
    assert titles == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DivergedError("training loss is nan in epoch 1"), "diverged"),
        (RuntimeError("CUDA error"), "crash"),
        (OSError(28, "No space left on device", "weights"), "fatal"),
    ],
)
def test_every_kind_of_failure_is_told(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    def fail(*_: object) -> float:
        raise error

    monkeypatch.setattr(loop.FoldRun, "_train_epoch", fail)
    result = FoldTrainable(config=tiny_run.task().to_dict()).step()
    assert result["failure"]["kind"] == kind
    assert str(error.args[-1]) in result["failure"]["message"] or kind == "fatal"


@pytest.fixture
def bare_machine(tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a cache, to which nobody has brought the images: where they ought to be."""
    monkeypatch.setenv("FOLDBLEND_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(fold_trainable, "LOOK_AGAIN_SECONDS", 0.0)
    fold_trainable.shared_run_data.cache_clear()
    there = tmp_path / "mounted"
    folds = tiny_run.root / "folds.parquet"
    table = pq.read_table(folds)
    paths = [str(there / Path(path).name) for path in table["path"].to_pylist()]
    at = table.column_names.index("path")
    pq.write_table(table.set_column(at, "path", pa.array(paths)), folds)
    return there


def test_a_machine_without_the_images_says_so_and_waits_for_them(
    tiny_run: TinyRun, bare_machine: Path, run_images: TinyImages
) -> None:
    actor = FoldTrainable(config=tiny_run.task().to_dict())
    for _ in range(3):
        result = actor.step()
        assert (result["done"], result["held"]) == (False, True)
        assert result["failure"]["kind"] == "lost"
        assert f"{bare_machine}/" in result["failure"]["message"]
        assert "file_mounts" in result["failure"]["message"]
    json.dumps(result)
    shutil.copytree(run_images.images, bare_machine)
    assert actor.step()["done"] is True
    actor.reset_config(tiny_run.task(1).to_dict())
    assert actor.step()["epoch"] == 1


def test_a_machine_with_another_copy_of_the_images_trains_nothing(
    tiny_run: TinyRun, bare_machine: Path, run_images: TinyImages
) -> None:
    shutil.copytree(run_images.images, bare_machine)
    first, second = sorted(bare_machine.iterdir())[:2]
    shutil.copy(first, second)
    result = FoldTrainable(config=tiny_run.task().to_dict()).step()
    assert result["held"] is True
    assert "not those that the run was begun with" in result["failure"]["message"]


def test_a_run_that_is_gone_is_a_failure_too(tiny_run: TinyRun, tmp_path: Path) -> None:
    task = replace(tiny_run.task(), run=str(tmp_path / "gone"))
    result = FoldTrainable(config=task.to_dict()).step()
    assert result["failure"]["kind"] == "fatal"
    assert "not a run directory" in result["failure"]["message"]


def test_tune_keeps_no_checkpoint_of_its_own(tiny_run: TinyRun, tmp_path: Path) -> None:
    actor = FoldTrainable(config=tiny_run.task().to_dict())
    actor.step()
    actor.save_checkpoint(str(tmp_path / "tune"))
    actor.load_checkpoint(None)
    assert not (tmp_path / "tune").exists()
    actor.cleanup()
    assert actor.step()["epoch"] == 1  # from the fold run's own, not reported yet
