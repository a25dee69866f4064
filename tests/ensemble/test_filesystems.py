from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from ensemble import filesystems
from ensemble.filesystems import open_filesystem

ENDPOINT = "endpoint_override=http://127.0.0.1:1"


def test_a_path_is_opened_on_the_local_disk(tmp_path: Path) -> None:
    filesystem, path = open_filesystem(str(tmp_path))
    assert isinstance(filesystem, LocalFileSystem)
    assert path == str(tmp_path)


def test_one_s3_client_serves_every_file_of_a_bucket_and_endpoint() -> None:
    first, _ = open_filesystem(f"s3://bucket/a?{ENDPOINT}")
    again, path = open_filesystem(f"s3://bucket/b/c?{ENDPOINT}")
    other, _ = open_filesystem("s3://bucket/a?endpoint_override=http://127.0.0.1:2")
    assert first is again
    assert first is not other
    assert path == "bucket/b/c"


def test_a_forked_process_makes_a_client_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, _ = open_filesystem(f"s3://bucket/a?{ENDPOINT}")
    monkeypatch.setattr(filesystems.os, "getpid", lambda: -1)
    child, _ = open_filesystem(f"s3://bucket/a?{ENDPOINT}")
    assert parent is not child


def test_the_query_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:3")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    filesystem, _ = open_filesystem(f"s3://bucket/a?{ENDPOINT}&region=eu-west-3")
    assert filesystem.region == "eu-west-3"
    from_environment, _ = open_filesystem("s3://bucket/a")
    assert from_environment.region == "eu-north-1"


def test_an_s3_name_is_taken_as_it_stands() -> None:
    _, path = open_filesystem(f"s3://bucket/a b%20c/config_id=1?{ENDPOINT}")
    assert path == "bucket/a b%20c/config_id=1"
