"""With a cluster of plain Python; with a real one in tests/tuner/test_cluster_commands.py."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from search_spaces.errors import ConfigError
from tests.tuner.cluster.made_cluster import MadeCluster, Reply, made_job
from tuner.cluster.check import Findings, NodeFindings
from tuner.cluster.names import RUN
from tuner.cluster.needs import Needs
from tuner.cluster.submit import Queued, submit_resume, submit_search
from tuner.errors import UserError

OVERRIDES = (
    "experiment=scratch",
    "data=folder",
    "backbone=test_resnet",
    "name=cars",
    "data.path=/d",
    "storage=~/runs",
)


def checked(run: str, **more: Any) -> Callable[[str], Reply]:
    """A cluster that finds what `more` says, and names the run `run`."""

    def reply(command: str) -> Reply:
        if "check-cluster" not in command:
            return 0, ""
        versions = {"foldblend": version("foldblend")}
        node = NodeFindings("10.0.0.1", True, **{"versions": versions, **more})
        return 0, Findings(run, None, (node,)).to_line()

    return reply


def test_a_search_is_checked_and_then_queued_under_the_name_the_head_gives_its_run() -> None:
    cluster = MadeCluster(reply=checked("/home/ray/runs/cars"))
    seen: list[Findings] = []
    queued = submit_search(cluster, OVERRIDES, None, show=seen.append)  # type: ignore[arg-type]
    assert queued.run == seen[0].run == "/home/ray/runs/cars"
    check, search = cluster.submitted
    assert check["submission_id"] in cluster.deleted
    assert search["submission_id"] == queued.job_id
    assert search["metadata"][RUN] == "/home/ray/runs/cars"
    assert shlex.split(search["entrypoint"]) == ["foldblend", "search", "--", *OVERRIDES]
    needs = Needs.from_json(shlex.split(check["entrypoint"])[-1])
    assert (needs.run, [need.key for need in needs.paths]) == ("~/runs/cars", ["data.path"])


def test_a_mistake_in_the_overrides_is_found_before_anything_is_sent() -> None:
    cluster = MadeCluster()
    with pytest.raises(ConfigError):
        submit_search(cluster, [*OVERRIDES, "folds.kk=3"], None)  # type: ignore[arg-type]
    assert cluster.submitted == []


def test_what_the_check_finds_wrong_is_shown_and_nothing_is_queued() -> None:
    cluster = MadeCluster(reply=checked("/r/cars", wrong={"data.path": "nothing is there"}))
    seen: list[Findings] = []
    with pytest.raises(UserError, match=r"data.path=/d on the head"):
        submit_search(cluster, OVERRIDES, None, show=seen.append)  # type: ignore[arg-type]
    assert len(seen) == len(cluster.submitted) == 1


def test_a_check_that_breaks_says_its_last_line() -> None:
    cluster = MadeCluster(reply=lambda command: (1, "Traceback\nImportError: no pyarrow\n"))
    with pytest.raises(UserError, match="could not be checked: ImportError: no pyarrow; --no-ch"):
        submit_search(cluster, OVERRIDES, None)  # type: ignore[arg-type]


def test_another_ray_on_the_cluster_is_refused_unless_nothing_is_checked() -> None:
    cluster = MadeCluster(ray_version="2.1.0")
    with pytest.raises(UserError, match=r"runs Ray 2.1.0"):
        submit_search(cluster, OVERRIDES, None)  # type: ignore[arg-type]
    queued = submit_search(cluster, OVERRIDES, None, check=False)  # type: ignore[arg-type]
    assert queued.run == "~/runs/cars"


def test_an_own_folder_of_groups_travels_as_the_jobs_folder(tmp_path: Path) -> None:
    (tmp_path / "folds").mkdir()
    (tmp_path / "folds" / "mine.yaml").write_text("k: 3\n")
    cluster = MadeCluster()
    submit_search(cluster, [*OVERRIDES, "folds=mine"], tmp_path, check=False)  # type: ignore[arg-type]
    [search] = cluster.submitted
    assert search["runtime_env"]["working_dir"] != str(tmp_path)
    assert "--config-dir ." in search["entrypoint"]


def test_a_run_that_another_job_searches_is_refused() -> None:
    cluster = MadeCluster(known=[made_job("foldblend-cars-1", "RUNNING", "~/runs/cars")])
    with pytest.raises(UserError, match="the job foldblend-cars-1 searches it now"):
        submit_search(cluster, OVERRIDES, None, check=False)  # type: ignore[arg-type]
    for text in ("cars", "~/runs/cars/"):
        with pytest.raises(UserError, match="the job foldblend-cars-1 searches it now"):
            submit_resume(cluster, text)  # type: ignore[arg-type]
    assert cluster.submitted == []


@pytest.mark.parametrize("text", ["cars", "foldblend-cars-1", "/r/cars"])
def test_a_run_is_resumed_by_job_by_name_or_by_its_directory(text: str) -> None:
    cluster = MadeCluster(
        known=[made_job("foldblend-cars-1", "STOPPED", "/r/cars")], reply=checked("/r/cars")
    )
    queued: Queued = submit_resume(cluster, text)  # type: ignore[arg-type]
    assert queued.job_id != "foldblend-cars-1"
    check, search = cluster.submitted
    assert Needs.from_json(shlex.split(check["entrypoint"])[-1]) == Needs("/r/cars", True)
    assert shlex.split(search["entrypoint"])[-2:] == ["--resume", "/r/cars"]


def test_a_relative_run_directory_is_no_place_on_the_cluster() -> None:
    with pytest.raises(UserError, match="relative to this machine's folder"):
        submit_resume(MadeCluster(), "runs/cars")  # type: ignore[arg-type]


def test_somebody_elses_job_has_no_run_to_resume() -> None:
    cluster = MadeCluster(known=[made_job("raysubmit_1", "FAILED")])
    with pytest.raises(UserError, match="no search of ours"):
        submit_resume(cluster, "raysubmit_1")  # type: ignore[arg-type]
