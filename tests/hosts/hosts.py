"""Several hosts on one machine, out of namespaces: a small network that ends with the test.

Each host has its own processes, name, network (sshd on port 22), `/tmp`, `/dev/shm`, home and layer
over the machine's disk: what a host writes, only that host sees, except under the shared folders.
The switch between them is in a network namespace too, so two test sessions never meet, nothing
outside can be reached, and nothing is left behind: a host ends when the pipe to its first process
closes, which happens even where the test is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.hosts.patience import until
from tests.hosts.possible import PATH

HOME = "/home/tester"
NETWORK = "10.77.0"
_SCRIPT = Path(__file__).with_name("host.sh")
_OWN = ("--mount", "--uts", "--ipc", "--net", "--pid")
_SSHD = """\
Port 22
HostKey /etc/host/key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
PidFile none
Subsystem sftp internal-sftp
"""


@dataclass
class Host:
    """One host. In `folder`, outside of it: sshd's `log`, and `tmp`, which it sees as /tmp."""

    name: str
    address: str
    folder: Path
    switch: Switch
    shared: tuple[Path, ...]
    first: subprocess.Popen | None = None

    def boot(self) -> None:
        """Start its first process; what it had on disk is still there."""
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        temporary.chmod(0o1777)
        before = len(self.log())
        layers = self.switch.layers / self.name
        command = [*self.switch.inside("--mount"), "unshare", *_OWN, "--fork", "--", "bash"]
        words = [str(_SCRIPT), self.name, str(layers), str(temporary), *map(str, self.shared)]
        self.first = _start([*command, *words], self.folder / "log")
        self.switch.plug(self.name, self.address, self.first_pid())
        until(
            lambda: "Server listening" in self.log()[before:],
            "no sshd",
            self.log,
            every_seconds=0.02,
        )

    def first_pid(self) -> int:
        """The id, in the test's own view, of the host's process 1."""
        assert self.first is not None, f"{self.name} is not running"
        return _only_child(self.first)

    def kill(self) -> None:
        """The power fails: every process of the host ends at once. `boot` brings it back."""
        assert self.first is not None, f"{self.name} is not running"
        os.kill(self.first_pid(), 9)
        self.close()

    def cut(self) -> None:
        """Its network cable is pulled; its processes go on."""
        self.switch.run("ip", "link", "set", self.name, "down")

    def mend(self) -> None:
        """The cable is back."""
        self.switch.run("ip", "link", "set", self.name, "up")

    def inside(self, env: Mapping[str, str] | None = None) -> list[str]:
        """The beginning of a command that runs on this host."""
        values = {
            "HOME": HOME,
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:{PATH}",
            "USER": "root",
            **(env or {}),
        }
        enter = ["nsenter", f"--target={self.first_pid()}", *_OWN, "--"]
        return [
            *enter,
            "env",
            "-i",
            "-C",
            HOME,
            *(f"{name}={value}" for name, value in values.items()),
        ]

    def run(
        self,
        *command: object,
        env: Mapping[str, str] | None = None,
        timeout_seconds: float = 120.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there, its output and errors together in `stdout`."""
        done = subprocess.run(
            [*self.inside(env), *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
        )
        assert not check or done.returncode == 0, f"{self.name}: {command}\n{done.stdout}"
        return done

    def start(
        self, *command: object, log: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen:
        """Start a command there; it ends with the host at the latest."""
        return _start([*self.inside(env), *map(str, command)], log)

    def processes(self) -> dict[int, str]:
        """Everything that runs there: its id in the test's own view, and its command line."""
        mine = os.readlink(f"/proc/{self.first_pid()}/ns/pid")
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(folder / "ns" / "pid") == mine:
                    words = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                    found[int(folder.name)] = b" ".join(words).decode(errors="replace")
            except OSError:  # it has just ended
                continue
        return found

    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def close(self) -> None:
        """End everything on it."""
        if self.first is not None:
            _end(self.first)
            self.first = None


@dataclass
class Switch:
    """What the hosts are plugged into. `layers`: where their own layers of the disk lie."""

    layers: Path
    process: subprocess.Popen

    def inside(self, *namespaces: str) -> list[str]:
        return ["nsenter", f"--target={self.process.pid}", *namespaces, "--"]

    def run(self, *command: str) -> None:
        whole = [*self.inside("--net"), *command]
        done = subprocess.run(
            whole, capture_output=True, text=True, env=os.environ | {"PATH": PATH}
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"

    def write(self, host: str, path: str, text: str | bytes, mode: int = 0o644) -> None:
        """Put a file on a host's disk before it boots. The layers are seen in here only."""
        target = self.layers / host / "upper" / path.lstrip("/")
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        whole = [*self.inside("--mount"), "sh", "-c", script, "sh", str(target), f"{mode:o}"]
        subprocess.run(whole, check=True, input=text.encode() if isinstance(text, str) else text)

    def plug(self, name: str, address: str, pid: int) -> None:
        # The same card after every boot, or others would still call for the old one.
        card = f"02:00:00:00:00:{int(address.rpartition('.')[2]):02x}"
        peer = ("peer", "name", "eth0", "address", card, "netns", str(pid))
        self.run("ip", "link", "add", name, "type", "veth", *peer)
        self.run("ip", "link", "set", name, "master", "switch", "up")
        there = ("nsenter", f"--target={pid}", "--net", "--", "ip")
        self.run(*there, "link", "set", "lo", "up")
        self.run(*there, "addr", "add", f"{address}/24", "dev", "eth0")
        self.run(*there, "link", "set", "eth0", "up")
        # Nothing answers there, but Ray asks the routes which address is its own.
        self.run(*there, "route", "add", "default", "via", f"{NETWORK}.1")


@dataclass
class Hosts:
    """`laptop` is a host like the others, by custom the one that Ray does not run on."""

    key: Path
    laptop: Host
    others: tuple[Host, ...]
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)

    @property
    def all(self) -> tuple[Host, ...]:
        return (self.laptop, *self.others)


@contextmanager
def hosts(folder: Path, names: Sequence[str], shared: Sequence[Path] = ()) -> Iterator[Hosts]:
    """Boot a laptop and a host for every name, and end them afterwards.

    `folder` holds logs, the ssh `key` that every host lets in, and a folder for each host; it is
    shared, as are this project, its Python and `shared`."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        switch = _switch(folder, stack)
        key = _key(folder / "key")
        every = (folder, *_python_and_project(), *(path.resolve() for path in shared))
        seen = tuple(path for path in dict.fromkeys(every) if not _is_inside(path, every))
        made = []
        addresses = {"laptop": f"{NETWORK}.10"}
        addresses |= {name: f"{NETWORK}.{11 + number}" for number, name in enumerate(names)}
        for name, address in addresses.items():
            host = Host(name, address, folder / name, switch, seen)
            _furnish(switch, name, addresses, key)
            stack.callback(host.close)
            host.boot()
            made.append(host)
        yield Hosts(key, made[0], tuple(made[1:]))


def _switch(folder: Path, stack: ExitStack) -> Switch:
    layers = folder / "layers"
    layers.mkdir()
    command = ["unshare", "--mount", "--net", "--", "sh", "-c"]
    script = (
        f"mount -t tmpfs tmpfs '{layers}' && ip link add switch type bridge "
        f"&& ip addr add {NETWORK}.1/24 dev switch && ip link set switch up "
        "&& echo made && exec cat"
    )
    process = _start([*command, script], folder / "switch.log")
    stack.callback(_end, process)
    log = folder / "switch.log"
    until(lambda: "made" in log.read_text(), "no switch", log.read_text, every_seconds=0.02)
    return Switch(layers, process)


def _furnish(switch: Switch, host: str, addresses: Mapping[str, str], key: Path) -> None:
    """What a host has on its disk before its first boot."""
    names = "".join(f"{address} {name}\n" for name, address in addresses.items())
    users = Path("/etc/passwd").read_text().splitlines()
    others = [line for line in users if not line.startswith("root:")]
    switch.write(host, "/etc/hosts", f"127.0.0.1 localhost\n{names}")
    switch.write(host, "/etc/hostname", f"{host}\n")
    switch.write(host, "/etc/resolv.conf", "nameserver 127.0.0.1\n")  # refuses at once
    switch.write(host, "/etc/passwd", "\n".join([f"root:x:0:0::{HOME}:/bin/bash", *others, ""]))
    switch.write(host, "/etc/shadow", "root:*:19000:0:99999:7:::\n", 0o600)
    switch.write(host, "/etc/host/key", key.read_bytes(), 0o600)
    switch.write(host, "/etc/host/sshd_config", _SSHD)
    public = key.with_suffix(".pub").read_bytes()
    switch.write(host, f"{HOME}/.ssh/authorized_keys", public, 0o600)


def _python_and_project() -> tuple[Path, ...]:
    project = Path(__file__).resolve().parents[2]
    python = Path(sys.executable).resolve().parents[1]
    return (project, Path(sys.prefix).resolve(), python)


def _is_inside(path: Path, others: Sequence[Path]) -> bool:
    return path == Path("/usr") or any(other in path.parents for other in others)


def _key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path


def _start(command: list[str], log: Path) -> subprocess.Popen:
    """The process ends when its input does: with `_end`, or with this one."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": PATH},
            start_new_session=True,  # Ctrl-C is for the test, which then ends the hosts in order
        )


def _end(process: subprocess.Popen) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _only_child(process: subprocess.Popen) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: bool(children.read_text().split()), "the host's first process did not start")
    return int(children.read_text().split()[0])
