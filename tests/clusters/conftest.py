"""Fixtures of the cluster files: nothing sent, and AWS before and after `clusters/aws_once.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters import clouds


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that would leave the machine fails instead."""
    clouds.stay_offline(monkeypatch)


@pytest.fixture
def empty_aws(tmp_path: Path) -> Iterator[None]:
    """A simulated account in which nothing was made yet, but the default VPC."""
    with clouds.simulated_aws(tmp_path):
        yield


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One for a file's tests together, after `aws_once.py`: group, roles and bucket are there."""
    from clusters.aws_once import make_all

    with clouds.simulated_aws(tmp_path_factory.mktemp("home")):
        make_all(clouds.REGION, clouds.BUCKET, clouds.SSH_FROM, cluster="foldblend", vpc=None)
        yield
