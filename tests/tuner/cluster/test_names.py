from __future__ import annotations

import re

import pytest

from tests.tuner.cluster.made_cluster import made_job
from tuner.cluster import names
from tuner.cluster.errand import ERRAND
from tuner.cluster.trouble import NoSuchJobError
from tuner.errors import UserError

JOBS = [
    made_job("foldblend-cars-1111aaaa", "STOPPED", "s3://b/cars"),
    made_job("foldblend-birds-2222bbbb", "RUNNING", "s3://b/birds"),
    made_job("foldblend-cars-3333cccc", "RUNNING", "s3://b/cars"),
    made_job("raysubmit_4444", "RUNNING"),
    made_job("foldblend-check-5555dddd", "RUNNING", metadata={ERRAND: "check"}),
]


def test_an_id_has_the_runs_name_and_eight_digits() -> None:
    assert re.fullmatch(r"foldblend-cars-[0-9a-f]{8}", names.new_job_id("cars"))
    assert names.new_job_id("cars") != names.new_job_id("cars")


def test_a_job_carries_its_run_its_name_and_our_version() -> None:
    found = names.metadata("s3://b/runs/cars?region=x")
    assert (found[names.RUN], found[names.NAME]) == ("s3://b/runs/cars?region=x", "cars")
    assert found[names.VERSION]


def test_our_jobs_are_searches_only() -> None:
    assert [names.run_of(job) for job in names.our_jobs(JOBS)] == [
        "s3://b/cars",
        "s3://b/birds",
        "s3://b/cars",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("foldblend-cars-1111aaaa", "foldblend-cars-1111aaaa"),
        ("raysubmit_4444", "raysubmit_4444"),
        ("cars", "foldblend-cars-3333cccc"),
        ("s3://b/cars", "foldblend-cars-3333cccc"),
        ("foldblend-b", "foldblend-birds-2222bbbb"),
    ],
)
def test_a_job_is_found_by_id_by_its_run_or_by_the_beginning_of_its_id(
    text: str, found: str
) -> None:
    assert names.find_job(text, JOBS).submission_id == found


@pytest.mark.parametrize("text", ["foldblend-cars", "nothing", "foldblend-check"])
def test_an_ambiguous_or_unknown_name_is_no_job(text: str) -> None:
    with pytest.raises(NoSuchJobError):
        names.find_job(text, JOBS)


def test_a_name_that_runs_of_two_directories_have_is_refused_with_both() -> None:
    """Two people on one cluster: the newest may be somebody else's."""
    jobs = [
        made_job("foldblend-csv-1111aaaa", "RUNNING", "s3://mine/csv"),
        made_job("foldblend-csv-2222bbbb", "STOPPED", "s3://yours/csv"),
        made_job("foldblend-csv-3333cccc", "RUNNING", "s3://yours/csv"),
    ]
    with pytest.raises(UserError) as refused:
        names.find_job("csv", jobs)
    assert str(refused.value) == (
        "csv: 2 runs of this name are on the cluster: foldblend-csv-1111aaaa (s3://mine/csv, "
        "running), foldblend-csv-3333cccc (s3://yours/csv, running); give the job's id or the run "
        "directory instead"
    )
    for text, found in (("s3://mine/csv/", "1111aaaa"), ("s3://yours/csv", "3333cccc")):
        assert names.find_job(text, jobs).submission_id == f"foldblend-csv-{found}"


def test_what_has_a_slash_is_a_run_directory() -> None:
    assert names.is_run("s3://b/cars")
    assert names.is_run("~/cars")
    assert not names.is_run("foldblend-cars-1111aaaa")
