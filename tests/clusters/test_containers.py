"""The image and the containers: built and started where an engine is, read and linted here."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.clouds import ROOT, environment, read

LOCALHOST = "127.0.0.1"


def instructions() -> list[tuple[str, str]]:
    """Word and argument of every instruction of the Dockerfile, continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    lines = kept.replace("\\\n", " ").splitlines()
    return [(w, rest) for w, _, rest in (line.partition(" ") for line in lines) if w.isupper()]


def arguments(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


def copied() -> list[str]:
    """What comes from this folder into the image."""
    sources = [rest.split()[:-1] for rest in arguments("COPY") if "--from=" not in rest]
    return [source for group in sources for source in group]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read("compose.yaml")


def program(name: str) -> str | None:
    """A tool beside this Python, or on PATH."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return shutil.which(name, path=beside)


# --- the image ------------------------------------------------------------------------------------


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = program("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: the Dockerfile was not linted")
    said = subprocess.run(
        [hadolint, "--no-color", "Dockerfile"], cwd=ROOT, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_everything_that_is_copied_is_there_and_reaches_the_engine() -> None:
    allowed = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), f"the Dockerfile copies {source}, which is not here"
    assert sorted(copied()) == sorted(allowed)


def test_every_package_of_the_project_is_copied() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    for pattern in packages:
        assert any(fnmatch.fnmatch(source, pattern) for source in copied())


def test_what_the_build_installs_is_said_in_pyproject_alone(tmp_path: Path) -> None:
    """The line of the Dockerfile that reads the dependencies, run as it stands."""
    import tomllib

    (line,) = [run for run in arguments("RUN") if "dependencies.txt" in run and "tomllib" in run]
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line], cwd=tmp_path, env=environment(PATH=path)
    )
    assert done.returncode == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (tmp_path / "dependencies.txt").read_text().splitlines() == project["dependencies"]
    chosen = (tmp_path / "torch.txt").read_text().splitlines()
    assert [re.match(r"\w+", each)[0] for each in chosen] == ["torch", "torchvision"]  # type: ignore[index]


def test_a_build_for_another_device_than_pytorchs_stops_with_a_line() -> None:
    torch = pytest.importorskip("torch")
    (line,) = [run for run in arguments("RUN") if "torch.version.cuda" in run]
    built = "cpu" if torch.version.cuda is None else "cuda"
    check = line.split("&&", 1)[1].strip()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for device in ("cpu", "cuda"):
        done = subprocess.run(
            ["bash", "-c", check],
            env=environment(PATH=path, DEVICE=device),
            capture_output=True,
            text=True,
        )
        assert (done.returncode == 0) == (device == built)
        assert (f"DEVICE={device} was asked for" in done.stderr) == (device != built)


def test_the_image_runs_without_root_by_number() -> None:
    assert arguments("USER") == ["${UID}"]
    assert "UID=1000" in arguments("ARG")
    assert instructions().index(("USER", "${UID}")) > [w for w, _ in instructions()].index("COPY")


def test_the_image_is_asked_whether_it_is_well() -> None:
    (check,) = arguments("HEALTHCHECK")
    assert "local_raylet_healthz" in check


def test_the_image_has_the_ray_of_the_cluster_files() -> None:
    def pinned(text: str) -> set[str]:
        return set(re.findall(r"ray\[\S+\]==[\d.]+", text))

    assert pinned(" ".join(arguments("RUN"))) == pinned((ROOT / "cluster.yaml").read_text())


def test_no_address_of_a_package_index_is_in_the_files() -> None:
    for name in ("Dockerfile", "compose.yaml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://(?!127\.0\.0\.1)", text)


# --- head and workers -----------------------------------------------------------------------------


def test_only_localhost_reaches_the_containers(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports == [f"{LOCALHOST}:8265:8265"]
    assert "networks" not in compose
    assert not any("network_mode" in service for service in compose["services"].values())


def test_every_container_has_the_token_as_a_secret(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["secrets"] == ["auth_token"]
        assert service["environment"] == {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": "/run/secrets/auth_token",
        }
    assert set(compose["secrets"]["auth_token"]) == {"file"}


def test_no_container_may_become_more_than_it_is(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service.get("privileged")


def test_every_container_starts_ray_and_stays(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        words = service["command"].split()
        assert words[:2] == ["ray", "start"]
        assert "--block" in words
        assert ("--head" in words) == (name == "head")


def test_ray_knows_every_option_that_is_used(compose: dict[str, Any]) -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    for service in compose["services"].values():
        used = re.findall(r"(--[a-z-]+)", service["command"])
        assert set(used) <= known


def test_runs_are_shared_and_outlive_the_containers(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert "runs:/runs" in service["volumes"]
    assert "runs" in compose["volumes"]


def test_the_build_takes_every_argument_that_is_given(compose: dict[str, Any]) -> None:
    known = {name.partition("=")[0] for name in arguments("ARG")}
    for service in compose["services"].values():
        assert set(service["build"]["args"]) <= known


def test_gpus_are_asked_for_only_by_the_gpu_profile(compose: dict[str, Any]) -> None:
    asking = {name for name, service in compose["services"].items() if "deploy" in service}
    profiled = {name for name, service in compose["services"].items() if "profiles" in service}
    assert asking == profiled == {"worker-gpu"}


def test_docker_compose_reads_the_file() -> None:
    docker = program("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed: it did not read compose.yaml")
    done = subprocess.run(
        [docker, "compose", "--profile", "gpu", "config", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_no_key_of_a_service_is_misspelt(compose: dict[str, Any]) -> None:
    """Those of the compose specification that this file uses, where no docker reads it."""
    known = (
        *("image", "build", "command", "environment", "secrets", "volumes", "ports", "init"),
        *("restart", "shm_size", "ulimits", "stop_grace_period", "security_opt", "cap_drop"),
        *("depends_on", "profiles", "deploy"),
    )
    assert {key for key in compose if not key.startswith("x-")} == {
        *("name", "services", "secrets", "volumes")
    }
    for service in compose["services"].values():
        assert set(service) <= set(known)
