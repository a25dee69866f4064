"""`kill -9` of the driver at random moments: nothing finished is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from search_spaces.config import Configuration
from tests.conftest import TinyImages, _write_images
from trainables.loop import run_fold
from trainables.run_data import load_run_data
from trainables.task import FoldTask
from tuner import events as ev
from tuner.race import Status
from tuner.replayed import read_run

KILLS = 3
PATIENCE_SECONDS = 240


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> TinyImages:
    return _write_images(tmp_path_factory.mktemp("kill") / "images", 3, 12, 32, 0)


def arguments(images: TinyImages, storage: Path, name: str, slots: int) -> list[str]:
    return [
        *("experiment=scratch", f"storage={storage}", f"name={name}", "data=csv"),
        *(f"data.path={images.csv}", f"data.images={images.images}", "train.image_size=32"),
        *(f"data.test_images={images.images}", "folds.k=3", "train.epochs=6"),
        *("backbone=choice(test_resnet,test_efficientnet)", "augment=light"),
        *("search.budget.configurations=5", "search.promotion.members=2"),
        *("search.resources.cpus=1", f"search.resources.slots={slots}"),
    ]


def start(*command: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tuner.cli", "search", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )


def complete(process: subprocess.Popen) -> None:
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output


def records(run: Path) -> list[dict[str, Any]]:
    """Whole lines only: another process is writing."""
    file = run / "journal" / "events.jsonl"
    if not file.exists():
        return []
    *lines, _ = file.read_text().split("\n")
    return [json.loads(line) for line in lines]


def kill_at(process: subprocess.Popen, run: Path, wanted: int, delay_seconds: float) -> bool:
    """SIGKILL, `delay_seconds` after the journal has `wanted` records; False if it ended before."""
    end = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < end:
        if len(records(run)) >= wanted:
            time.sleep(delay_seconds)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return process.returncode == -signal.SIGKILL
        time.sleep(0.02)
    return False


def search_with_kills(
    images: TinyImages, storage: Path, slots: int, draw: random.Random, *options: str
) -> Path:
    run = storage / f"killed-{slots}"
    process = start(*options, *arguments(images, storage, run.name, slots))
    killed, folds = 0, b""
    for _ in range(KILLS):
        wanted = len(records(run)) + draw.randint(2, 7)
        if not kill_at(process, run, wanted, draw.uniform(0.0, 0.2)):
            break
        killed += 1
        folds = folds or (run / "folds.parquet").read_bytes()
        process = start(*options, "--resume", str(run))
    complete(process)
    assert killed == KILLS, f"the search ended after {killed} kills"
    assert (run / "folds.parquet").read_bytes() == folds, "the folds were drawn again"
    return run


def trained_alone(run: Path, aside: Path) -> dict[str, bytes]:
    """The files of every finished fold run, trained once more in this process, undisturbed."""
    left_out = shutil.ignore_patterns("oof", "test", "weights", "journal", "tune", ".lock")
    shutil.copytree(run, aside, ignore=left_out)
    stored, data = read_run(str(run)), load_run_data(str(aside))
    configurations = {
        one.event.config_id: Configuration.model_validate(one.event.configuration)
        for one in stored.records
        if isinstance(one.event, ev.Proposed)
    }
    for (config_id, fold), fold_run in stored.race.runs.items():
        if fold_run.status is Status.FINISHED:
            configuration = configurations[config_id]
            task = FoldTask(str(aside), config_id, configuration, fold, 0, threads=1)
            assert list(run_fold(task, data))[-1].done
    return predictions(aside)


def predictions(run: Path) -> dict[str, bytes]:
    files = [*run.glob("oof/*/*.parquet"), *run.glob("test/*/*.parquet")]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}


def assert_nothing_twice(run: Path) -> None:
    finished = set()
    for record in records(run):
        event = record["event"]
        key = (event.get("config_id"), event.get("fold"))
        if event["type"] in ("Started", "Finished"):
            assert key not in finished, f"{event['type']} again: {key}"
        if event["type"] == "Finished":
            finished.add(key)


@pytest.fixture
def draw() -> random.Random:
    """New moments every time; FOLDBLEND_KILL_SEED repeats those of a failed run."""
    seed = int(os.environ.get("FOLDBLEND_KILL_SEED", random.SystemRandom().randint(0, 10**6)))
    print(f"FOLDBLEND_KILL_SEED={seed}")
    return random.Random(seed)


@pytest.mark.slow
def test_in_one_process_a_killed_search_ends_with_the_same_members_and_files(
    images: TinyImages, tmp_path: Path, draw: random.Random
) -> None:
    complete(start("--in-process", *arguments(images, tmp_path, "whole", 1)))
    killed = search_with_kills(images, tmp_path, 1, draw, "--in-process")
    whole = tmp_path / "whole"
    assert_nothing_twice(killed)
    assert (killed / "folds.parquet").read_bytes() == (whole / "folds.parquet").read_bytes()
    assert predictions(killed) == predictions(whole)
    members = [json.loads((run / "blend.json").read_text())["members"] for run in (killed, whole)]
    assert members[0] == members[1]


@pytest.mark.slow
def test_on_ray_a_killed_search_repeats_nothing_keeps_its_budget_and_trains_what_it_would_have(
    images: TinyImages, tmp_path: Path, draw: random.Random
) -> None:
    run = search_with_kills(images, tmp_path, 2, draw)
    assert_nothing_twice(run)
    proposed = [one for one in records(run) if one["event"]["type"] == "Proposed"]
    assert len(proposed) == 5
    epochs = [
        (one["event"]["config_id"], one["event"]["fold"], one["event"]["epoch"])
        for one in records(run)
        if one["event"]["type"] in ("Reported", "Finished")
    ]
    assert len(epochs) == len(set(epochs)), "an epoch was counted twice"
    assert len(json.loads((run / "blend.json").read_text())["members"]) == 2
    assert not list(run.glob("checkpoints/*/*/*")), "left by a fold run that is over"
    assert predictions(run) == trained_alone(run, tmp_path / "alone")
