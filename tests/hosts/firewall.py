"""The firewall of docs/security.md on hosts of a test."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence

from tests.hosts.hosts import Host
from tests.hosts.listening import DOCUMENT
from tests.hosts.possible import program

_CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def opens(port):
    try:
        socket.create_connection((sys.argv[1], port), timeout=1).close()
    except OSError:
        return None
    return port
with ThreadPoolExecutor(32) as pool:
    print(json.dumps([port for port in pool.map(opens, json.loads(sys.argv[2])) if port]))
"""


def reason_not() -> str:
    """Why no firewall can be loaded here; empty where one can."""
    return "" if program("nft") else "the firewall's rules need nft (Debian package nftables)"


def rules(text: str, cluster: Sequence[Host], admins: Sequence[Host]) -> str:
    """The document's rules for these hosts."""
    (written,) = re.findall(r"^```nft\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for name, hosts in (("CLUSTER", cluster), ("ADMINS", admins)):
        addresses = ", ".join(host.address for host in hosts)
        written = re.sub(rf"(define {name} =) \{{.*?\}}", rf"\1 {{ {addresses} }}", written)
    return written


def lets_in(port: int) -> bool:
    """Whether the machines of the cluster let each other in there."""
    (listed,) = re.findall(r"saddr \$CLUSTER tcp dport \{(.*?)\}", DOCUMENT.read_text())
    ranges = (part.strip().partition("-") for part in listed.split(","))
    return any(int(first) <= port <= int(last or first) for first, _, last in ranges)


def load(cluster: Sequence[Host], admins: Sequence[Host]) -> None:
    """On every host of the cluster, before anything is connected."""
    text = rules(DOCUMENT.read_text(), cluster, admins)
    for host in cluster:
        host.run("sh", "-c", 'printf %s "$1" | nft -f -', "sh", text)


def open_ports(asker: Host, host: Host, ports: Sequence[int]) -> list[int]:
    """Which of these ports the asker can connect to."""
    said = asker.run(sys.executable, "-c", _CONNECT, host.address, json.dumps(list(ports))).stdout
    return list(json.loads(said))
