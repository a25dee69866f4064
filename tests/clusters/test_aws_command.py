"""`ray up cluster.yaml`, the command, against a simulated AWS with an address.

An `ssh` and an `rsync` that only write down their arguments stand first on PATH.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.clusters import clouds
from tests.clusters.clouds import REGION, ROOT, SSH_FROM, read
from tests.clusters.machines import described, opened, profile, tags


@pytest.fixture
def aws_server() -> Iterator[str]:
    """A simulated AWS with an address, for another process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A folder with the project's files as `ray up` wants them, and programs that send nothing.

    moto hands out addresses that belong to somebody: `ssh` and `rsync` must never be the real ones.
    """
    for program in ("ssh", "rsync"):
        path = tmp_path / "bin" / program
        path.parent.mkdir(exist_ok=True)
        log = shlex.quote(str(tmp_path / f"{program}.log"))
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {log}\nexit 0\n')
        path.chmod(0o755)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    written = read("cluster.yaml")
    written["provider"]["use_internal_ips"] = True
    written["file_mounts"] = {
        remote: str(tmp_path / ".ray/auth_token") if "auth_token" in local else str(ROOT / local)
        for remote, local in written["file_mounts"].items()
    }
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(written))
    return tmp_path


def ray_up(scratch: Path, server: str) -> subprocess.CompletedProcess[str]:
    fake = scratch / "bin"
    ours = clouds.environment(
        **clouds.DUMMY_AWS,
        AWS_ENDPOINT_URL=server,
        HOME=str(scratch),
        TMPDIR=str(scratch),
        PATH=f"{fake}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH=str(ROOT),
    )
    command = ["ray", "up", "-y", "--no-config-cache", "cluster.yaml"]
    return subprocess.run(
        command, cwd=scratch, env=ours, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_ray_up_asks_for_one_head_and_sets_it_up(
    scratch: Path, aws_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clusters.aws_once import make_all

    for name, value in {**clouds.DUMMY_AWS, "AWS_ENDPOINT_URL": aws_server}.items():
        monkeypatch.setenv(name, value)
    make_all(REGION, clouds.BUCKET, SSH_FROM, cluster="foldblend", vpc=None)
    done = ray_up(scratch, aws_server)
    assert done.returncode == 0, done.stdout + done.stderr
    (head,) = described()
    assert head["InstanceType"] == "m6i.large"
    assert "InstanceLifecycle" not in head
    assert profile(head) == "foldblend-head"
    assert [group["GroupName"] for group in head["SecurityGroups"]] == ["foldblend"]
    told = {"ray-node-type": "head", "ray-cluster-name": "foldblend", "ray-user-node-type": "head"}
    assert told.items() <= tags(head).items()
    assert opened() == {"foldblend": [(22, [SSH_FROM])]}
    run = (scratch / "ssh.log").read_text()
    for part in ("pip install", "RAY_AUTH_MODE=token ray start --head", "auth_token"):
        assert part in run
    assert "foldblend/tuner" in (scratch / "rsync.log").read_text()
