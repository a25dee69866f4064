"""cluster.yaml as Ray reads it, and an AWS that is only simulated."""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-west-2"
BUCKET = "somebody-runs"
SSH_FROM = "203.0.113.7/32"

# What every process that talks to the simulated AWS sees, so that no real account is ever met.
DUMMY_AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
}


def read(name: str) -> Any:
    """A YAML file of the project."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def prepare(written: dict[str, Any]) -> dict[str, Any]:
    """The file with Ray's defaults filled in, as `ray up` goes on with it."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(copy.deepcopy(written))


@contextmanager
def simulated_aws(home: Path) -> Iterator[None]:
    """AWS inside this process, empty but for the default VPC, and nothing that leaves the machine.
    `home` is the user's, where Ray writes its key."""
    from moto import mock_aws

    with pytest.MonkeyPatch.context() as patch:
        stay_offline(patch)
        for name, value in {**DUMMY_AWS, "HOME": str(home)}.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        forget_aws()
        with mock_aws():
            yield
        forget_aws()


def stay_offline(patch: pytest.MonkeyPatch) -> None:
    """What would open a connection fails instead."""

    def refuse(_socket: socket.socket, address: Any) -> None:
        raise AssertionError(f"this was to happen offline, a call went to {address}")

    patch.setattr(socket.socket, "connect", refuse)


def forget_aws() -> None:
    """Empty the caches in which Ray keeps clients and subnets of an AWS for the process's life."""
    from ray.autoscaler._private import providers
    from ray.autoscaler._private.aws import config, utils

    utils.resource_cache.cache_clear()
    utils.client_cache.cache_clear()
    config._get_subnets_or_die.cache_clear()
    providers._clear_provider_cache()


def environment(**more: str) -> dict[str, str]:
    """This process's environment without anything of Ray or AWS, and `more`."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "AWS_"))}
    return {**plain, **more}
