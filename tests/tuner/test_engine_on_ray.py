"""Whole searches on a real Ray, one Ray at a time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
import ray
from ray.air.execution._internal import RayActorManager
from rich.console import Console

from ensemble.blend_value import read_blend
from ensemble.files import Location
from ensemble.store import OofStore
from tests.conftest import TinyImages, _write_images
from tests.ports import free_port
from trainables.checkpoint import load_checkpoint
from trainables.run_paths import RunPaths
from tuner import engine, ray_edge
from tuner import events as ev
from tuner.journal import Record
from tuner.slots import Slots
from tuner.study import Outcome, resume, search

pytestmark = pytest.mark.slow


@dataclass
class Watched:
    """What Tune did: when it asked for an actor, and which process each result came from."""

    actors: list[float] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    fold_runs: list[str] = field(default_factory=list)
    on_result: Callable[[Any, dict[str, Any]], None] = lambda task, result: None


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> TinyImages:
    return _write_images(tmp_path_factory.mktemp("engine") / "images", 3, 10, 32, 0)


def overrides(images: TinyImages, storage: Path, *more: str) -> list[str]:
    return [
        *("experiment=scratch", f"storage={storage}", "name=run", "data=csv"),
        *(f"data.path={images.csv}", f"data.images={images.images}"),
        *(f"data.test_images={images.images}", "folds.k=2", "train.image_size=32"),
        *("backbone=choice(test_resnet,test_efficientnet)", "augment=none", "optimizer.lr=2e-3"),
        *("train.epochs=2", "search.pruning.min_epochs=1", "search.budget.configurations=6"),
        *("search.promotion.members=4", "search.resources.slots=2", *more),
    ]


def watch(patch: pytest.MonkeyPatch, watched: Watched) -> None:
    add, result = RayActorManager.add_actor, ray_edge.RaceScheduler.on_trial_result

    def add_actor(self: Any, *args: Any, **kwargs: Any) -> Any:
        watched.actors.append(time.monotonic())
        return add(self, *args, **kwargs)

    def on_trial_result(self: Any, controller: Any, trial: Any, values: dict[str, Any]) -> str:
        watched.pids.append(values["pid"])
        watched.fold_runs.append(trial.trial_id)
        task = self._assignments.tasks[trial.trial_id]
        decision = result(self, controller, trial, values)
        watched.on_result(task, values)
        return decision

    patch.setattr(RayActorManager, "add_actor", add_actor)
    patch.setattr(ray_edge.RaceScheduler, "on_trial_result", on_trial_result)
    patch.delenv("RAY_ADDRESS", raising=False)
    patch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"CPU": 2}))


def search_on_ray(arguments: list[str], watched: Watched) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, watched)
        return search(arguments, console=Console(quiet=True))


@pytest.fixture(scope="module")
def watched() -> Watched:
    return Watched()


@pytest.fixture(scope="module")
def outcome(
    images: TinyImages, tmp_path_factory: pytest.TempPathFactory, watched: Watched
) -> Outcome:
    storage = tmp_path_factory.mktemp("runs")
    return search_on_ray(overrides(images, storage), watched)


def descendants(pid: int) -> list[int]:
    """Of a process, by /proc."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        parents[int(folder.name)] = (int(fields[1]), fields[0])
    found = [child for child, (parent, state) in parents.items() if parent == pid and state != "Z"]
    return found + [lower for child in found for lower in descendants(child)]


def test_a_search_on_ray_ends_with_members_blend_ledger_and_submission(
    outcome: Outcome, images: TinyImages
) -> None:
    root, race = outcome.stored.directory.root, outcome.stored.race
    assert len(race.entrants) == 6
    assert race.members
    assert outcome.blend == read_blend(root / "blend.json")
    rows = pd.read_parquet(root.local_path / "fold_runs.parquet")
    assert len(rows) == len(race.runs)
    assert set(rows["status"]) <= {"finished", "pruned"}
    assert pd.read_csv(root.local_path / "submission.csv").iloc[:, 0].tolist() == sorted(images.ids)
    for member in race.members:
        assert sorted(OofStore(root).read_member(member).ids) == sorted(images.ids)


def test_two_fold_runs_went_on_at_once_and_never_more(outcome: Outcome) -> None:
    running: set[tuple[str, int]] = set()
    most = 0
    for record in outcome.stored.records:
        match record.event:
            case ev.Started() as event:
                running.add((event.config_id, event.fold))
            case ev.Finished() as event:
                running.remove((event.config_id, event.fold))
        running -= {(one.config_id, one.fold) for one in record.decisions if type(one) is ev.Prune}
        most = max(most, len(running))
    assert most == 2
    assert not running


def test_two_actors_did_all_the_fold_runs(outcome: Outcome, watched: Watched) -> None:
    started = [one for one in outcome.stored.records if isinstance(one.event, ev.Started)]
    assert len(started) >= 7
    assert len(watched.actors) == 2
    assert len(set(watched.pids)) <= 2


def test_ray_is_gone_afterwards_and_tune_left_next_to_nothing(outcome: Outcome) -> None:
    assert not ray.is_initialized()
    names = [Path(f"/proc/{pid}/comm").read_text() for pid in descendants(os.getpid())]
    assert not [name for name in names if "raylet" in name or "gcs_server" in name]
    assert not [name for name in engine._SETTINGS if name in os.environ]
    tune = outcome.stored.directory.tune.local_path
    assert not list(tune.rglob("checkpoint_*"))


def test_a_worker_killed_in_mid_fold_run_costs_one_try_and_no_epoch(
    images: TinyImages, tmp_path: Path
) -> None:
    killed: list[Any] = []
    histories: list[tuple[dict[str, float], ...]] = []
    paths = RunPaths(Location.of(tmp_path / "run"))

    def kill(task: Any, values: dict[str, Any]) -> None:
        if not killed and values["epoch"] == 1:
            killed.append(task)
            os.kill(values["pid"], signal.SIGKILL)
        elif killed and (task.config_id, task.fold) == (killed[0].config_id, killed[0].fold):
            stored = load_checkpoint(paths.checkpoint(task.config_id, task.fold))
            assert stored is not None
            histories.append(tuple(dict(one.metrics) for one in stored.history))

    ended = search_on_ray(
        overrides(
            images,
            tmp_path,
            *("train.epochs=3", "search.budget.configurations=2", "search.promotion.members=2"),
            "search.pruning.enabled=false",
        ),
        Watched(on_result=kill),
    )
    (failed,) = [one for one in ended.stored.records if isinstance(one.event, ev.Failed)]
    assert isinstance(failed.event, ev.Failed)
    assert (failed.event.config_id, failed.event.fold) == (killed[0].config_id, killed[0].fold)
    assert failed.event.error.startswith("The actor died")
    assert [type(one) for one in failed.decisions] == [ev.Retry]
    assert len(ended.stored.race.members) == 2
    first = reported(ended, killed[0], 1)
    assert histories[0][0] == first, "epoch 1 was trained again instead of read"
    rows = pd.read_parquet(tmp_path / "run" / "fold_runs.parquet")
    mine = rows[(rows["config_id"] == killed[0].config_id) & (rows["fold"] == killed[0].fold)]
    assert mine[["failures", "status"]].values.tolist() == [[1, "finished"]]


def reported(outcome: Outcome, task: Any, epoch: int) -> dict[str, float]:
    """The metrics of an epoch that the journal holds once."""
    (metrics,) = [
        dict(record.event.metrics)
        for record in outcome.stored.records
        if isinstance(record.event, ev.Reported)
        and (record.event.config_id, record.event.fold) == (task.config_id, task.fold)
        and record.event.epoch == epoch
    ]
    return metrics


def test_ctrl_c_ends_after_the_current_epochs_and_a_resume_completes(
    images: TinyImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also the fold runs that wait for a machine: four slots, of which two have no place yet."""
    monkeypatch.setattr(engine, "slots_of", lambda *_, **__: Slots(4))
    watched = Watched()

    def interrupt(task: Any, values: dict[str, Any]) -> None:
        if len(watched.pids) == 1:
            signal.raise_signal(signal.SIGINT)

    watched.on_result = interrupt
    stopped = search_on_ray(overrides(images, tmp_path, "search.pruning.enabled=false"), watched)
    assert stopped.stopped
    assert stopped.stored.race.in_flight > 2, "some waited"
    assert len(watched.pids) <= 2, "one that waited was begun after the interruption"
    assert capsys.readouterr().out == ""
    assert stopped.blend is None
    assert not ray.is_initialized()
    assert not [one for one in stopped.stored.records if isinstance(one.event, ev.Failed)]
    whole = resume(str(tmp_path / "run"), console=Console(quiet=True), in_process=True)
    assert len(whole.stored.race.entrants) == 6
    assert whole.blend is not None
    assert not repeated(whole.stored.records)


def repeated(records: tuple[Record, ...]) -> list[tuple[str, int, int]]:
    epochs = [
        (one.event.config_id, one.event.fold, one.event.epoch)
        for one in records
        if isinstance(one.event, ev.Reported | ev.Finished)
    ]
    return sorted(one for one in set(epochs) if epochs.count(one) > 1)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A Ray of two CPUs to attach to, with ports, folder and token of its own; ended by its id."""
    with TemporaryDirectory(prefix="ray") as folder:  # short: sockets lie in it
        token = Path(folder) / "token"
        token.write_text(os.urandom(32).hex())
        port = free_port()
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
                *("--num-cpus", "2", "--port", str(port), "--temp-dir", folder),
                *("--include-dashboard=false", "--disable-usage-stats"),
                *("--ray-client-server-port", str(free_port())),
                *("--dashboard-agent-listen-port", str(free_port())),
                *("--min-worker-port", "0", "--max-worker-port", "0"),
            ],
            env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            mine = descendants(process.pid)
            process.terminate()
            process.communicate(timeout=60)
            for pid in mine:
                if Path(f"/proc/{pid}").exists():
                    os.kill(pid, signal.SIGKILL)


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            continue
        return
    raise AssertionError("the head did not start")


def test_a_search_attaches_to_the_cluster_of_ray_address_and_leaves_it_running(
    images: TinyImages, tmp_path: Path, head: subprocess.Popen[str]
) -> None:
    wait_for(int(os.environ["RAY_ADDRESS"].rpartition(":")[2]), head)
    command = overrides(
        images, tmp_path, "search.budget.configurations=2", "search.promotion.members=1"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "tuner.cli", "search", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (tmp_path / "run" / "blend.json").exists()
    assert head.poll() is None
