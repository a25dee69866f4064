"""The hosts that other tests stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.hosts import HOME, Host, Hosts, hosts
from tests.hosts.patience import until
from tests.hosts.possible import reason_not

pytestmark = pytest.mark.skipif(bool(reason_not()), reason=reason_not())
STAY = """
import sys, time, pathlib
from tests.hosts.hosts import hosts
with hosts(pathlib.Path(sys.argv[1]), ["one"]) as made:
    print(made.others[0].first_pid(), flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts(tmp_path_factory.mktemp("hosts"), ["one", "two"]) as made:
        yield made


def ssh(made: Hosts, host: Host, *command: str) -> subprocess.CompletedProcess[str]:
    options = ["-o", "StrictHostKeyChecking=no", "-o", "ConnectTimeout=2", "-i", made.key]
    return made.laptop.run("ssh", "-q", *options, host.address, *command, check=False)


def test_every_host_lets_the_key_in_and_says_its_own_name(made: Hosts) -> None:
    for host in made.others:
        assert ssh(made, host, "hostname; echo ~").stdout.split() == [host.name, HOME]


def test_what_a_host_writes_only_that_host_sees(made: Hosts) -> None:
    one, two = made.others
    for folder in ("/etc", "/tmp", "/dev/shm", "/usr/local/bin", HOME):
        one.run("touch", f"{folder}/mine")
        assert two.run("ls", f"{folder}/mine", check=False).returncode != 0
        assert not Path(folder, "mine").exists()


def test_what_is_shared_every_host_sees(made: Hosts) -> None:
    one, two = made.others
    one.run("touch", made.key.parent / "ours")
    two.run("ls", made.key.parent / "ours")


def test_a_host_sees_its_own_processes_only(made: Hosts) -> None:
    one, two = made.others
    process = one.start("sleep", "1000", log=made.key.parent / "sleep.log")
    until(lambda: "sleep 1000" in one.processes().values(), "it does not run")
    assert "sleep 1000" not in two.processes().values()
    assert "sleep 1000" not in two.run("sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '").stdout
    process.kill()


def test_nobody_outside_can_be_reached(made: Hosts) -> None:
    ask = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    assert made.laptop.run(sys.executable, "-c", ask, check=False).returncode != 0


def test_a_host_that_is_cut_off_goes_on_and_is_reached_again_when_mended(made: Hosts) -> None:
    one, _ = made.others
    before = one.first_pid()
    one.cut()
    assert ssh(made, one, "true").returncode != 0
    one.mend()
    until(lambda: ssh(made, one, "true").returncode == 0, "not reached again")
    assert one.first_pid() == before


def test_a_host_that_lost_power_has_its_disk_and_no_process_of_before(made: Hosts) -> None:
    _, two = made.others
    two.run("touch", "/etc/written")
    two.start("sleep", "2000", log=made.key.parent / "sleep.log")
    until(lambda: "sleep 2000" in two.processes().values(), "it does not run")
    two.kill()
    assert ssh(made, two, "true").returncode != 0
    two.boot()
    assert "sleep 2000" not in two.processes().values()
    assert ssh(made, two, "ls /etc/written").returncode == 0


def test_two_sessions_at_once_do_not_meet(made: Hosts, tmp_path: Path) -> None:
    with hosts(tmp_path / "hosts", ["one"]) as other:
        assert other.others[0].address == made.others[0].address
        other.others[0].run("touch", "/etc/theirs")
        assert made.others[0].run("ls", "/etc/theirs", check=False).returncode != 0
        assert ssh(other, other.others[0], "true").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_test_that_was_interrupted_or_killed(
    number: signal.Signals, tmp_path: Path
) -> None:
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", STAY, tmp_path / "hosts"], cwd=root, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    first = int(process.stdout.readline())
    process.send_signal(number)
    process.wait(timeout=30)
    until(lambda: not _runs(first), "the host is still there")
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    assert "one" not in links.split()
    process.stdout.close()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    time.sleep(0.05)
    return state != "Z"
