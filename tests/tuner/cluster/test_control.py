"""With a cluster of plain Python; with a real one in tests/tuner/test_cluster_commands.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.tuner.cluster.made_cluster import MadeCluster, made_job
from tuner.cluster import control
from tuner.errors import UserError


@pytest.mark.parametrize(
    ("status", "exit_code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", None, 1), ("STOPPED", None, 130)],
)
def test_a_command_that_waited_ends_as_its_job_did(
    status: str, exit_code: int | None, expected: int
) -> None:
    assert control.exit_code(made_job("job", status, driver_exit_code=exit_code)) == expected


def test_the_log_goes_to_the_screen_without_rays_lines(capsys: pytest.CaptureFixture) -> None:
    job = made_job("job", "SUCCEEDED", "/r/a")
    cluster = MadeCluster(known=[job], tails=[["Running entrypoint for job job: x\none\n"]])
    assert control.show_log(cluster, job, print) is job  # type: ignore[arg-type]
    assert capsys.readouterr().out == "one\n"


def test_a_stop_asks_ray_and_kills_only_when_told_to() -> None:
    job = made_job("foldblend-a-1", "RUNNING", "/r/a")
    cluster = MadeCluster(known=[job])
    control.stop(cluster, job)  # type: ignore[arg-type]
    assert (cluster.stopped, cluster.submitted) == (["foldblend-a-1"], [])
    control.stop(cluster, job, now=True)  # type: ignore[arg-type]
    assert cluster.submitted[0]["entrypoint"] == "foldblend kill-job foldblend-a-1"


def test_a_job_that_has_ended_cannot_be_stopped() -> None:
    with pytest.raises(UserError, match=r"has ended already \(failed\)"):
        control.stop(MadeCluster(), made_job("job", "FAILED"))  # type: ignore[arg-type]


def test_a_kill_that_fails_is_said() -> None:
    cluster = MadeCluster(reply=lambda command: (1, "no such command\n"))
    with pytest.raises(UserError, match="could not be killed: no such command"):
        control.kill(cluster, "job")  # type: ignore[arg-type]


def test_a_kill_that_found_nothing_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "POLL_SECONDS", 0.0)
    running = made_job("foldblend-a-1", "RUNNING", "/r/a")
    cluster = MadeCluster(known=[running], reply=lambda command: (0, "0 processes\n"))
    with pytest.raises(UserError, match=r"nothing was killed: .*kill its `foldblend search` there"):
        control.kill(cluster, "foldblend-a-1")  # type: ignore[arg-type]


def test_a_job_that_ended_before_it_was_killed_is_no_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray notices a moment later that its processes are gone."""
    cluster = MadeCluster(reply=lambda command: (0, "0 processes\n"))
    states = iter(("RUNNING", "STOPPED"))
    job, really = "foldblend-a-1", cluster.job
    monkeypatch.setattr(control, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(
        cluster, "job", lambda text: made_job(job, next(states)) if text == job else really(text)
    )
    control.kill(cluster, job)  # type: ignore[arg-type]
    assert next(states, None) is None


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="/proc is Linux's")
@pytest.mark.parametrize("name", ["a", "größe-图"])
def test_a_jobs_processes_are_killed_and_no_others(name: str) -> None:
    def start(job_id: str) -> subprocess.Popen:
        config = json.dumps({"metadata": {"job_submission_id": job_id}})
        return subprocess.Popen(
            [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"],
            env={**os.environ, "RAY_JOB_CONFIG_JSON_ENV_VAR": config},
            stdout=subprocess.PIPE,
        )

    wanted, other = start(f"foldblend-{name}-1"), start(f"foldblend-{name}-12")
    try:
        for process in (wanted, other):
            assert process.stdout
            process.stdout.readline()
        assert control.kill_here(f"foldblend-{name}-1") == 1
        assert wanted.wait(timeout=60) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (wanted, other):
            process.kill()
            process.communicate()


def test_a_status_is_that_of_the_cluster_at_this_terminals_width() -> None:
    cluster = MadeCluster(reply=lambda command: (0, "the table\n"))
    text = control.status_there(cluster, "/r/a", decisions=True, width=97, colours=False)  # type: ignore[arg-type]
    assert text == "the table\n"
    [sent] = cluster.submitted
    assert sent["entrypoint"] == "foldblend status /r/a --decisions"
    assert sent["runtime_env"]["env_vars"]["COLUMNS"] == "97"


def test_a_status_that_fails_there_is_an_error_here() -> None:
    cluster = MadeCluster(reply=lambda command: (2, "error: /r/a: not a run directory\n"))
    with pytest.raises(UserError, match=r"^on the cluster: /r/a: not a run directory$"):
        control.status_there(cluster, "/r/a", decisions=False, width=80, colours=True)  # type: ignore[arg-type]


def test_waiting_survives_an_interrupt_and_ends_with_the_job() -> None:
    cluster = MadeCluster(known=[made_job("job", "RUNNING")])
    asked: list[str] = []

    def job(job_id: str) -> object:
        asked.append(job_id)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return made_job("job", "STOPPED")

    cluster.job = job  # type: ignore[method-assign]
    interrupts: list[int] = []
    ended = control.wait_for_end(cluster, "job", lambda: interrupts.append(1))  # type: ignore[arg-type]
    assert (ended.status.value, interrupts) == ("STOPPED", [1])
