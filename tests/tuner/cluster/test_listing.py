from __future__ import annotations

import pytest

from tests.tuner.cluster.made_cluster import made_job
from tuner.cluster.listing import lines_of, made_row, span, telling_line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.4, "0s"), (59.9, "59s"), (60, "1m"), (3900, "1h05"), (187200, "2d04h")],
)
def test_a_time_span_is_short(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_a_row_counts_to_the_end_or_to_now() -> None:
    running = made_job("foldblend-a-1", "RUNNING", "/r/a", start_time=1_000_000)
    assert made_row(running, "epoch 3", now=1060.0).seconds == 60.0
    ended = made_job("foldblend-a-1", "STOPPED", "/r/a", start_time=1_000_000, end_time=1_005_000)
    assert made_row(ended, "epoch 3", now=1060.0).seconds == 5.0


def test_a_job_without_a_log_shows_rays_message() -> None:
    job = made_job("foldblend-a-1", "PENDING", "/r/a", message="waiting for resources\nmore")
    row = made_row(job, "", now=0.0)
    assert (row.last, row.started, row.seconds) == ("waiting for resources", None, None)


@pytest.mark.parametrize("width", [80, 120])
def test_ids_and_runs_are_whole_and_only_the_last_line_is_cut(width: int) -> None:
    run = "s3://a-bucket-with-a-long-name/and/a/long/folder/which-goes-on/and-on/a-long-name"
    job = made_job("foldblend-a-rather-long-name-of-a-run-1234abcd", "SUCCEEDED", run)
    lines = [line.plain for line in lines_of([made_row(job, "x" * 200, now=0.0)], width)]
    assert str(job.submission_id) in lines[0]
    assert lines[1].endswith(run)
    assert len(lines[2]) == width


PROGRESS = "14:03:05  12/40 configurations · 31 fold runs · 96/400 fold-epochs · 5 pruned"


@pytest.mark.parametrize(
    ("log", "failed", "told"),
    [
        (f"2 fold runs at a time\n{PROGRESS}\nleaderboard\nRay logs  /tmp/ray\n", False, PROGRESS),
        (f"{PROGRESS}\nerror: the disk is full\n", True, "error: the disk is full"),
        ("decoding images\n\n", False, "decoding images"),
        ("", False, ""),
    ],
)
def test_the_line_that_tells_is_progress_or_where_it_failed_the_error(
    log: str, failed: bool, told: str
) -> None:
    assert telling_line(log, failed=failed) == told
