"""`clusters/local_disk.sh` with disks that are only told of: nothing is formatted here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.clusters.clouds import ROOT, environment

ROOT_DISK = r"nvme0n1 Amazon\x20Elastic\x20Block\x20Store"
BUILT_IN = r"nvme1n1 Amazon\x20EC2\x20NVMe\x20Instance\x20Storage"
SECOND = r"nvme2n1 Amazon\x20EC2\x20NVMe\x20Instance\x20Storage"


class Machine:
    """A home folder and programs that say what a machine would; `ran` is what would change it."""

    def __init__(self, folder: Path) -> None:
        self.home, self.bin, self.log = folder / "home", folder / "bin", folder / "ran"
        self.disks, self.mounts, self.used = folder / "disks", folder / "mounts", folder / "used"
        self.fast, self.joined = folder / "mnt", folder / "joined"
        for place in (self.home, self.bin):
            place.mkdir()
        for file in (self.disks, self.mounts, self.used, self.log):
            file.touch()
        self._program("mountpoint", f'grep -qxF "$2" {self.mounts}')
        self._program(
            "lsblk",
            f'case "$1" in -dnro) cat {self.disks} ;; *) grep -F "${{@: -1}} " {self.used} ;; esac',
        )
        # The folders it makes are real; formatting and mounting is only written down.
        self._program(
            "sudo",
            f'echo "$*" >> {self.log}; case "$1" in mkdir|install) "$@" ;;'
            f' mount) echo "${{@: -1}}" >> {self.mounts} ;; esac; true',
        )

    def _program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/usr/bin/env bash\n{script}\n")
        path.chmod(0o755)

    def run(self) -> str:
        text = (ROOT / "clusters/local_disk.sh").read_text()
        # The paths that are fixed in the script.
        text = text.replace("/mnt/foldblend", str(self.fast))
        text = text.replace("/opt/dlami/nvme", str(self.joined))
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", text],
            env=environment(HOME=str(self.home), PATH=path),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def ran(self) -> list[str]:
        return [line.split()[0] for line in self.log.read_text().splitlines()]

    @property
    def cache(self) -> Path:
        return self.home / ".cache" / "foldblend"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_such_disks_keeps_its_root_disk(machine: Machine) -> None:
    machine.disks.write_text(f"{ROOT_DISK}\n")
    assert "stays on the root disk" in machine.run()
    assert machine.ran == []
    assert not machine.cache.exists()


def test_an_empty_built_in_disk_is_formatted_and_takes_the_cache(machine: Machine) -> None:
    machine.disks.write_text(f"{ROOT_DISK}\n{BUILT_IN}\n{SECOND}\n")
    machine.run()
    assert machine.ran == ["mkfs.ext4", "mkdir", "mount", "install", "install"]
    formatted = machine.log.read_text().splitlines()[0]
    assert formatted.endswith("/dev/nvme1n1")
    assert machine.cache.resolve() == machine.fast / "foldblend"
    (machine.cache / "images").mkdir()


def test_a_disk_that_holds_something_is_never_formatted(machine: Machine) -> None:
    machine.disks.write_text(f"{BUILT_IN}\n{SECOND}\n")
    machine.used.write_text("/dev/nvme1n1 ext4\n")
    machine.run()
    assert machine.log.read_text().splitlines()[0].endswith("/dev/nvme2n1")


def test_run_again_it_formats_nothing(machine: Machine) -> None:
    machine.disks.write_text(f"{BUILT_IN}\n")
    machine.run()
    (machine.cache / "kept").touch()
    machine.run()
    assert machine.ran.count("mkfs.ext4") == 1
    assert (machine.cache / "kept").exists()


def test_what_lay_in_the_cache_before_gives_way(machine: Machine) -> None:
    machine.cache.mkdir(parents=True)
    (machine.cache / "old").touch()
    machine.disks.write_text(f"{BUILT_IN}\n")
    machine.run()
    assert machine.cache.is_symlink()
    assert not (machine.cache / "old").exists()


def test_disks_that_the_image_joined_itself_are_used_as_they_are(machine: Machine) -> None:
    machine.disks.write_text(f"{BUILT_IN}\n{SECOND}\n")
    machine.joined.mkdir()
    machine.mounts.write_text(f"{machine.joined}\n")
    machine.run()
    assert set(machine.ran) == {"install"}
    assert machine.cache.resolve() == machine.joined / "foldblend"
