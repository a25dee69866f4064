"""The Ray edge, driven as an actor would, in this process and without a Ray."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from ray.tune.trainable import trainable as tune_trainable

from tests.conftest import TinyImages
from tests.own_process import without_tokens
from tests.trainables.tiny_run import TinyRun, changed
from trainables import fold_trainable, loop
from trainables.device_fault import DeviceLostError
from trainables.errors import UnreachableError
from trainables.failure import DivergedError
from trainables.fold_files import WALL_CLOCK
from trainables.fold_trainable import FoldTrainable
from trainables.run_data import RunData, load_run_data
from trainables.task import EpochResult, FoldTask


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
    assert result["failure"]["kind"] == "refused"
    assert result["failure"]["message"].startswith("optimizer.name=adamww: timm")
    assert "OptimizerError" in result["failure"]["traceback"]
    json.dumps(result)
    actor.reset_config(tiny_run.task().to_dict())
    assert actor.step()["epoch"] == 1


def in_an_actor(monkeypatch: pytest.MonkeyPatch, share: dict[str, float]) -> None:
    """As Ray would say in an actor that was given `share` of a machine of 48 cores and 4 GPUs."""
    context = SimpleNamespace(get_node_id=lambda: "here", get_assigned_resources=lambda: share)
    nodes = [
        {"NodeID": "there", "Resources": {"CPU": 8.0, "GPU": 1.0}},
        {"NodeID": "here", "Resources": {"CPU": 48.0, "GPU": 4.0, "memory": 1e9}},
    ]
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [0] if share.get("GPU") else [])
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(fold_trainable, "usable_cores", lambda: 48)


def made_with(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> tuple[torch.device | None, int | None]:
    """The device and the cores with which an actor begins a fold run."""
    seen: list[tuple[torch.device | None, int | None]] = []

    def run(
        task: FoldTask, data: RunData, device: torch.device | None, cores: int | None
    ) -> Iterator[EpochResult]:
        seen.append((device, cores))
        yield EpochResult(1, done=True)

    monkeypatch.setattr(fold_trainable, "run_fold", run)
    assert FoldTrainable(config=tiny_run.task().to_dict()).step()["done"] is True
    return seen[0]


def test_an_actor_without_a_gpu_of_its_own_trains_on_the_cpu(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray hides no GPU from it: torch would take the first, where others work."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    in_an_actor(monkeypatch, {"CPU": 1.0})
    assert made_with(tiny_run, monkeypatch) == (torch.device("cpu"), None)


def test_an_actor_with_a_gpu_trains_there_and_has_its_part_of_the_cores(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_an_actor(monkeypatch, {"CPU": 1.0, "GPU": 1.0})
    assert made_with(tiny_run, monkeypatch) == (None, 12)


def test_outside_ray_all_there_is_may_be_used(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made_with(tiny_run, monkeypatch) == (None, None)


@pytest.mark.slow
def test_ray_says_what_an_actor_was_given() -> None:
    """In a real one, which counts GPUs that are not there."""
    assert without_tokens(ask_actors) == [(None, 4), ("cpu", None)]


def ask_actors() -> list[tuple[str | None, int | None]]:
    @ray.remote
    class Actor:
        def given(self) -> tuple[str | None, int | None]:
            fold_trainable.usable_cores = lambda: 16  # type: ignore[assignment]
            device, cores = fold_trainable._given()
            return device and str(device), cores

    ray.init("local", num_cpus=8, num_gpus=2, include_dashboard=False, log_to_driver=False)
    try:
        actors = [
            Actor.options(num_cpus=1, num_gpus=0.5).remote(),  # type: ignore[attr-defined]
            Actor.options(num_cpus=1, num_gpus=0).remote(),  # type: ignore[attr-defined]
        ]
        return [tuple(one) for one in ray.get([actor.given.remote() for actor in actors])]  # type: ignore[misc]
    finally:
        ray.shutdown()


def test_an_actor_is_named_after_its_first_fold_run_and_its_process_after_the_present_one(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    in_an_actor(monkeypatch, {"CPU": 1.0})
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


def test_a_gpu_that_is_lost_to_the_process_ends_the_actor(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fold run after this one would fail in it."""

    def fail(*_: object) -> float:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered\nSearch for …")

    monkeypatch.setattr(loop.FoldRun, "_train_epoch", fail)
    actor = FoldTrainable(config=tiny_run.task().to_dict())
    with pytest.raises(
        DeviceLostError, match=r"^CUDA error: device-side assert triggered; the GPU"
    ):
        actor.step()


def watched_fold_runs(monkeypatch: pytest.MonkeyPatch) -> weakref.WeakSet[loop.FoldRun]:
    """The fold runs that are still in memory."""
    alive: weakref.WeakSet[loop.FoldRun] = weakref.WeakSet()
    real = loop.FoldRun.__init__

    def build(self: loop.FoldRun, *given: Any) -> None:
        real(self, *given)
        alive.add(self)

    monkeypatch.setattr(loop.FoldRun, "__init__", build)
    return alive


def counted_releases(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many fold runs were in memory each time that the GPU's was given back."""
    alive, counts = watched_fold_runs(monkeypatch), []

    def release() -> None:
        gc.collect()
        counts.append(len(alive))

    monkeypatch.setattr(fold_trainable, "release_all_memory", release)
    return counts


def test_an_actor_that_is_done_holds_no_fold_run(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = counted_releases(monkeypatch)
    actor = FoldTrainable(config=tiny_run.task(0).to_dict())
    assert released == [0]
    actor.step()
    assert actor.step()["done"] is True
    assert released == [0, 0]
    actor.reset_config(tiny_run.task(1).to_dict())
    actor.step()  # stopped by the search
    actor.reset_config(tiny_run.task(2).to_dict())
    assert released == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", [RuntimeError, UnreachableError])
def test_a_fold_run_that_failed_is_not_held_by_its_error(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """Not by the frames that the error came through, nor by those of what caused it."""

    def fail(*_: object) -> float:
        try:
            raise FileNotFoundError("a.jpg")
        except OSError as cause:
            raise kind("a.jpg: gone") from cause

    monkeypatch.setattr(loop.FoldRun, "_train_epoch", fail)
    released = counted_releases(monkeypatch)
    actor = FoldTrainable(config=tiny_run.task().to_dict())
    assert actor.step()["failure"]["message"].endswith("a.jpg: gone")
    assert released == [0, 0]


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
