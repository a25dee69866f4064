from __future__ import annotations

import pytest

from tests.tuner.cluster.made_cluster import MadeCluster
from tuner.cluster.errand import Answer, is_errand, last_line, run_errand, without_rays_lines
from tuner.errors import UserError


def test_an_errand_returns_what_it_printed_and_leaves_nothing_behind() -> None:
    cluster = MadeCluster(reply=lambda command: (0, "one\ntwo\n"))
    assert run_errand(cluster, "check", ["echo", "a b"], env={"A": "1"}) == Answer(0, "one\ntwo\n")
    [sent] = cluster.submitted
    assert sent["entrypoint"] == "echo 'a b'"
    assert sent["runtime_env"]["env_vars"]["A"] == "1"
    assert cluster.known == []


def test_an_errand_is_told_apart_from_a_search() -> None:
    cluster = MadeCluster()
    seen = []
    cluster.delete_job = lambda job_id: seen.append(is_errand(cluster.job(job_id)))  # type: ignore[method-assign,func-returns-value]
    run_errand(cluster, "check", ["x"])
    assert seen == [True]


def test_a_failing_command_is_an_answer() -> None:
    cluster = MadeCluster(reply=lambda command: (2, "error: no\n"))
    assert run_errand(cluster, "status", ["x"]) == Answer(2, "error: no\n")


def test_a_head_without_foldblend_is_said() -> None:
    cluster = MadeCluster(reply=lambda command: (127, "sh: 1: foldblend: not found\n"))
    with pytest.raises(UserError, match="`foldblend` is not on the PATH of the cluster's head"):
        run_errand(cluster, "check", ["foldblend"])
    assert cluster.known == []


def test_a_job_that_ray_cannot_run_is_said_and_deleted() -> None:
    cluster = MadeCluster(reply=lambda command: (None, ""))
    with pytest.raises(UserError, match="the cluster could not run a job"):
        run_errand(cluster, "check", ["x"])
    assert cluster.known == []


def test_an_errand_that_does_not_end_is_stopped() -> None:
    cluster = MadeCluster()
    with pytest.raises(UserError, match="did not end in 0 s"):
        run_errand(cluster, "check", ["x"], seconds=0.0)
    assert cluster.stopped == cluster.deleted == [cluster.submitted[0]["submission_id"]]


def test_rays_lines_go_from_the_beginning_only() -> None:
    begin = "Runtime env is setting up.\nRunning entrypoint for job x: y\n"
    assert without_rays_lines(f"{begin}a\nRunning entrypoint for job z\n") == (
        "a\nRunning entrypoint for job z\n"
    )


def test_the_last_line_of_a_silent_command() -> None:
    assert last_line("a\n b \n\n") == "b"
    assert last_line("") == "it said nothing"
