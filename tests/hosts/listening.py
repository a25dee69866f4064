"""What listens on a host, and what docs/security.md says about it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.hosts import Host

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "security.md"
_PROBE = Path(__file__).with_name("probe.py")
# What a port is asked, by the first number of its row. Only a method that a server has shows
# whether it asks for the token: what is unknown is refused as unknown.
QUESTIONS = {
    6379: ("grpc", "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"),
    6380: ("grpc", "/ray.rpc.NodeManagerService/GetNodeStats"),
    6381: ("grpc", "/ray.rpc.ObjectManagerService/Pull"),
    8090: ("http", "/metrics"),
    8265: ("http", "/api/version"),
    10001: ("grpc", "/ray.rpc.RayletDriver/ClusterInfo"),
    10100: ("grpc", "/ray.rpc.CoreWorkerService/GetCoreWorkerStats"),
    44217: ("http", "/metrics"),
    44227: ("http", "/metrics"),
    52365: ("http", "/api/job_agent/jobs/none/logs"),
    52366: ("grpc", "/ray.rpc.ReporterService/GetTraceback"),
    52367: ("http", "/get_runtime_envs_info"),
}


@dataclass(frozen=True)
class Row:
    """A row of the document's table: ports `first` to `last`; `hosts`: "head", "workers";
    `binds`: "every interface", "the node's address", "127.0.0.1"; `asks`: for the token."""

    first: int
    last: int
    hosts: frozenset[str]
    binds: frozenset[str]
    asks: bool


@dataclass(frozen=True)
class Socket:
    """A port that `program` listens on; `binds` as in a row."""

    host: Host
    program: str
    port: int
    binds: str

    @property
    def is_local(self) -> bool:
        return self.binds == "127.0.0.1"


def rows(text: str) -> list[Row]:
    """The table under "What listens where"."""
    found = []
    for line in re.findall(r"^\| *\d.*\|$", text, re.MULTILINE):
        ports, _, hosts, binds, asks = (cell.strip() for cell in line.strip("|").split("|"))
        first, _, last = ports.partition("-")
        found.append(
            Row(
                int(first),
                int(last or first),
                frozenset(hosts.split(", ")),
                frozenset(binds.split(", ")),
                asks.startswith("yes"),
            )
        )
    return found


def row_of(socket: Socket, table: Sequence[Row]) -> Row:
    """The row for a socket; AssertionError where the document has none."""
    found = [row for row in table if row.first <= socket.port <= row.last]
    words = f"{socket.host.name}: {socket.program} listens on {socket.port}"
    assert len(found) == 1, f"{words}, which docs/security.md does not name once"
    return found[0]


def listening(host: Host) -> list[Socket]:
    """Every TCP port that something but sshd listens on."""
    found = []
    for line in host.run("ss", "-H", "-ltnp").stdout.splitlines():
        local, users = line.split()[3], line.split()[-1]
        address, _, port = local.rpartition(":")
        program = users.split('"')[1] if '"' in users else "?"
        if program != "sshd":
            found.append(Socket(host, program, int(port), _binds(address, host)))
    return found


def answers(asker: Host, sockets: Sequence[Socket]) -> list[dict[str, str]]:
    """What each port says to no token ("none") and to a wrong one ("wrong")."""
    table, questions = rows(DOCUMENT.read_text()), []
    for socket in sockets:
        row = row_of(socket, table)
        address = "127.0.0.1" if socket.is_local else socket.host.address
        questions.append([address, socket.port, *QUESTIONS[row.first]])
    said = asker.run(sys.executable, _PROBE, json.dumps(questions)).stdout
    return list(json.loads(said.splitlines()[-1]))


def _binds(address: str, host: Host) -> str:
    plain = address.strip("[]").removeprefix("::ffff:")
    if plain in ("*", "0.0.0.0", "::"):
        return "every interface"
    return "the node's address" if plain == host.address else plain
