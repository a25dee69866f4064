"""Whether this machine lets a test make hosts, and if not, why."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys

# Folders of system tools that are not on every user's PATH.
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/bin", "/bin"))
# Each program, and the Debian package that has it.
NEEDED = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "rsync": "rsync",
}
_TRIAL = """set -e
ip link add name try type bridge
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
"""


@functools.cache
def reason_not() -> str:
    """Why no hosts can be made here, in one line; empty where they can."""
    if not sys.platform.startswith("linux"):
        return "hosts are made of Linux namespaces"
    if os.geteuid() != 0:
        return "making hosts (namespaces) needs root"
    missing = sorted({package for name, package in NEEDED.items() if program(name) is None})
    if missing:
        return f"hosts need Debian packages that are not installed: {' '.join(missing)}"
    command = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc"]
    trial = subprocess.run(
        [*command, "bash", "-c", _TRIAL], capture_output=True, text=True, env={"PATH": PATH}
    )
    if trial.returncode:
        words = trial.stderr.strip().splitlines() or [f"exit code {trial.returncode}"]
        return f"namespaces are not allowed here: {words[-1]}"
    return ""


def program(name: str) -> str | None:
    """The whole path of a program, or None."""
    return shutil.which(name, path=PATH)
