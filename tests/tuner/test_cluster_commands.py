"""The commands as a user calls them: against nobody, a small server, and one real head with a
token."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.command import Answer, Command
from tests.conftest import TinyImages, _write_images
from tests.ports import free_port
from tests.tuner.cluster.dashboard import TOKEN, Dashboard, ray_answers, serving
from tests.tuner.cluster.made_cluster import MadeCluster, made_job
from tests.tuner.cluster.ray_head import RayHead, ray_head
from tests.tuner.cluster.wire import Wire
from tuner.cluster.control import killed_line
from tuner.cluster_commands import _say_end

PATIENCE_SECONDS = 300


@pytest.fixture
def foldblend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> Command:
    """The command line of somebody with a home of his own and a token in RAY_AUTH_TOKEN."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{free_port()}")  # nobody is there
    monkeypatch.setenv("COLUMNS", "100")
    return Command(monkeypatch, capsys)


# --- without a cluster -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("submit", "experiment=folder", "data.path=/d", "storage=/r"),
        ("jobs",),
        ("status", "cars"),
        ("logs", "cars"),
        ("stop", "cars"),
        ("resume", "cars"),
    ],
)
def test_without_a_cluster_every_command_says_where_it_looked(
    foldblend: Command, command: tuple[str, ...]
) -> None:
    error = foldblend(*command).one_line_error()
    assert "(RAY_ADDRESS): connection refused; open the tunnel with `ray dashboard" in error


def test_a_cluster_without_jobs_says_how_to_make_one(foldblend: Command) -> None:
    with serving(Dashboard(ray_answers() | {"/api/jobs/": []})) as dashboard:
        answer = foldblend("jobs", "--address", dashboard.url)
        assert (answer.code, answer.err) == (0, "")
        assert "`foldblend submit` makes one" in answer.out
        error = foldblend("logs", "cars", "--address", dashboard.url).one_line_error()
    assert error.startswith("cars: the cluster has no such job; it knows none")


def test_a_status_of_nothing_here_and_no_cluster_says_both(foldblend: Command) -> None:
    error = foldblend("status", "carz").one_line_error()
    assert error.startswith("carz: no run directory of this name here, and no Ray cluster answers")


def test_a_submit_without_anything_to_search_asks_nobody(foldblend: Command) -> None:
    assert foldblend("submit").one_line_error().startswith("nothing to search")


def test_commands_that_only_jobs_call_are_not_listed(foldblend: Command) -> None:
    listed = foldblend("--help").out
    assert "submit" in listed
    assert "check-cluster" not in listed
    assert "kill-job" not in listed


@pytest.mark.parametrize(("status", "command"), [("SUCCEEDED", "fetch"), ("STOPPED", "resume")])
def test_the_command_after_the_end_is_quoted_for_a_shell(
    capsys: pytest.CaptureFixture, status: str, command: str
) -> None:
    run = "s3://b/cars?endpoint_override=h:9000&scheme=http"
    job = made_job("foldblend-cars-1", status, run)
    _say_end(MadeCluster(), Console(width=200), job)  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert f"; foldblend {command} '{run}' --address http://head:8265\n" in said


def test_a_kill_says_how_many_processes_it_found(foldblend: Command) -> None:
    """The other side reads this line."""
    assert foldblend("kill-job", "foldblend-of-nobody-1").out == killed_line(0) + "\n"


# --- with a real head --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with ray_head() as running:
        yield running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> TinyImages:
    return _write_images(tmp_path_factory.mktemp("cluster") / "images", 3, 12, 32, 0)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@pytest.fixture
def on_cluster(foldblend: Command, head: RayHead, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
    monkeypatch.setenv("RAY_ADDRESS", head.url)
    return foldblend


def tiny(images: TinyImages, storage: Path, name: str, epochs: int = 2) -> list[str]:
    return [
        *("experiment=scratch", f"storage={storage}", f"name={name}", "data=csv"),
        *(f"data.path={images.csv}", f"data.images={images.images}", "train.image_size=32"),
        *("folds.k=2", f"train.epochs={epochs}", "backbone=test_resnet", "augment=light"),
        *("search.budget.configurations=2", "search.promotion.members=1"),
        *("search.resources.cpus=1", "search.resources.slots=1"),
    ]


def job_in(answer: Answer) -> str:
    found = re.search(r"^job (\S+)$", answer.out, re.MULTILINE)
    assert found, answer
    return found.group(1)


def events(run: Path) -> list[dict[str, Any]]:
    """Whole lines only: another process is writing."""
    file = run / "journal" / "events.jsonl"
    *lines, _ = file.read_text().split("\n") if file.exists() else [""]
    return [json.loads(line)["event"] for line in lines]


def wait_for_reports(run: Path, count: int) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if sum(event["type"] == "Reported" for event in events(run)) >= count:
            return
        time.sleep(0.2)
    raise AssertionError(f"{run}: no {count} reports; {events(run)}")


def start(*command: str) -> subprocess.Popen[str]:
    """The command as a process of its own, to send it a Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "tuner.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.mark.slow
def test_a_search_is_submitted_watched_to_its_end_and_looked_at_afterwards(
    on_cluster: Command, images: TinyImages, storage: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    (own / "folds").mkdir(parents=True)
    (own / "folds" / "two.yaml").write_text("k: 2\nkind: stratified\n")
    (own / "token").write_text("stays here")
    overrides = [*tiny(images, storage, "whole"), "folds=two"]
    overrides.remove("folds.k=2")

    answer = on_cluster("submit", *overrides, "--config-dir", own)
    assert (answer.code, "error" in answer.err) == (0, False), answer
    job = job_in(answer)
    assert "(head)" in answer.out
    assert "the ensemble" in answer.out
    assert "Running entrypoint" not in answer.out
    assert f"{job} succeeded; foldblend fetch {storage}/whole" in answer.out
    kept = storage / "whole" / "config"
    assert [str(path.relative_to(kept)) for path in kept.rglob("*.*")] == ["folds/two.yaml"]

    listed = on_cluster("jobs").out
    assert re.search(rf"{job} +succeeded +since ", listed)
    assert f"run   {storage}/whole" in listed
    assert "foldblend-check" not in listed

    status = on_cluster("status", "whole").out
    assert "succeeded" in status
    assert "leaderboard" in status
    assert "the ensemble" in on_cluster("logs", job[:-4]).out

    again = on_cluster("submit", *overrides, "--config-dir", own).one_line_error()
    assert "a run of this name exists" in again
    assert f"`foldblend resume {storage}/whole`" in again
    assert "has ended already (succeeded)" in on_cluster("stop", job).one_line_error()


@pytest.mark.slow
def test_a_stopped_search_keeps_its_epochs_and_is_resumed_and_followed_across_a_broken_connection(
    on_cluster: Command, head: RayHead, images: TinyImages, storage: Path
) -> None:
    run = storage / "stopped"
    submitted = on_cluster("submit", *tiny(images, storage, "stopped", 40), "--no-follow")
    assert submitted.code == 0, submitted
    wait_for_reports(run, 3)
    assert "searches it now" in on_cluster("resume", "stopped").one_line_error()

    stopped = on_cluster("stop", job_in(submitted))
    assert stopped.code == 0, stopped
    assert f"stopped; foldblend resume {run}" in stopped.out
    before = events(run)
    assert not any(event["type"] in ("Finished", "Failed") for event in before)
    assert list((run / "checkpoints").glob("*/*"))

    resumed = resumed_over_a_wire(head, run)
    assert f"`foldblend resume {run} --address" in resumed
    assert "connected again" in resumed
    job = job_in(Answer(0, resumed, ""))
    assert job != job_in(submitted)
    whole = on_cluster("logs", job).out
    said = [line for line in resumed.splitlines() if not line.startswith("note:")]
    assert whole in "".join(f"{line}\n" for line in said), "a line was lost, or shown twice"
    after = events(run)
    assert after[: len(before)] == before
    epochs = [
        (event["config_id"], event["fold"], event["epoch"])
        for event in after
        if event["type"] == "Reported"
    ]
    assert len(epochs) == len(set(epochs)), "an epoch was trained twice"


def resumed_over_a_wire(head: RayHead, run: Path) -> str:
    """What `foldblend resume` prints to the end, through a connection that breaks."""
    reported = sum(event["type"] == "Reported" for event in events(run))
    with Wire(head.url) as wire:
        process = start("resume", run.name, "--address", wire.url)
        try:
            wait_for_reports(run, reported + 2)
            wire.cut()
            wait_for_reports(run, reported + 6)
            wire.mend()
            output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_ctrl_c_leaves_the_job_running_and_now_kills_it(
    on_cluster: Command, images: TinyImages, storage: Path
) -> None:
    run = storage / "left"
    process = start("submit", *tiny(images, storage, "left", 1000))
    try:
        wait_for_reports(run, 1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "goes on; come back with `foldblend logs foldblend-left-" in output
    assert re.search("foldblend-left-.* running ", on_cluster("jobs").out)
    seen = len(events(run))
    wait_for_reports(run, seen)

    killed = on_cluster("stop", "left", "--now")
    assert (killed.code, " stopped; " in killed.out) == (0, True), killed


@pytest.mark.slow
def test_what_the_cluster_does_not_see_is_said_and_nothing_is_queued(
    on_cluster: Command, images: TinyImages, storage: Path
) -> None:
    (storage / "file").write_text("no folder")
    overrides = tiny(images, storage, "never")
    missing = on_cluster("submit", *overrides, "data.images=/no/such/folder")
    assert "no data.images" in missing.out
    assert missing.one_line_error().startswith("data.images=/no/such/folder on the head ")
    unwritable = on_cluster("submit", *overrides, f"storage={storage}/file")
    assert "cannot be written: Not a directory" in unwritable.one_line_error()
    nothing = on_cluster("resume", f"{storage}/nothing")
    assert "no run is there" in nothing.one_line_error()
    assert "never" not in on_cluster("jobs").out


@pytest.mark.slow
def test_every_node_is_asked(
    on_cluster: Command, head: RayHead, images: TinyImages, storage: Path
) -> None:
    from tests.tuner.cluster.ray_head import ray_worker

    with ray_worker(head):
        answer = on_cluster("submit", *tiny(images, storage, "two-nodes"), "data.images=/no")
    rows = [line for line in answer.out.splitlines() if "no data.images" in line]
    assert len(rows) == 2, answer
    assert "(head)" in rows[0]
