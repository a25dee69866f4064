"""What the check found: a table for people, and one line for what is wrong."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from tuner.cluster.check import Findings, NodeFindings
from tuner.cluster.needs import Needs
from tuner.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

STORAGE = "storage"
NO_WORKER = (
    "no worker yet: looked from the head only; workers that the autoscaler fetches are not checked"
)


def judge(findings: Findings, needs: Needs, here: str | None = None) -> None:
    """Raise UserError, one line, where a search would fail. `here`: this machine's foldblend."""
    if wrong := next(_wrongs(findings, needs, here or version("foldblend")), None):
        raise UserError(wrong)


def _wrongs(findings: Findings, needs: Needs, here: str) -> Iterator[str]:
    """Every reason not to queue, the plainest first."""
    head, *others = findings.nodes
    if findings.wrong:
        end = (
            "give the run directory as the cluster names it"
            if needs.exists
            else f"go on with it by `foldblend resume {shlex.quote(findings.run)}`, or choose "
            "another name=…"
        )
        yield f"{findings.run} on the cluster: {findings.wrong}; {end}"
    for node in findings.nodes:
        if node.silent:
            yield f"node {node.ip}: {node.silent}; look at it, or take it out of the cluster"
    yield from _other_versions(findings.nodes, here)
    paths = {need.key: need.path for need in needs.paths}
    for node in findings.nodes:
        for key, why in node.wrong.items():
            if key != STORAGE:
                yield _unreadable(node, key, paths.get(key, ""), why)
    if why := head.wrong.get(STORAGE, ""):
        yield (
            f"storage={_storage(findings.run)} on the head {head.ip}: {why}; give storage= a place "
            "that the cluster's user may write"
        )
        return
    for node in others:
        if why := node.wrong.get(STORAGE, ""):
            yield (
                f"storage={_storage(findings.run)} on node {node.ip} {why}; give storage=s3://… or "
                "a file system that every node mounts"
            )


def _unreadable(node: NodeFindings, key: str, path: str, why: str) -> str:
    where = "the head" if node.is_head else "node"
    return (
        f"{key}={path} on {where} {node.ip}: {why}; put the data there under this path "
        "(a shared file system, file_mounts in cluster.yaml), or give an s3:// address"
    )


def _other_versions(nodes: Sequence[NodeFindings], here: str) -> Iterator[str]:
    """Python between this machine and the cluster may differ: only text goes over the wire. Among
    the nodes it may not, because Ray sends pickles between them."""
    head = nodes[0]
    for node in nodes:
        there = node.versions.get("foldblend", here)
        if there != here:
            yield (
                f"node {node.ip} has foldblend {there}, this machine has {here}; install the "
                "same on both (`ray up cluster.yaml` brings a cluster up to date), or submit with "
                "--no-check"
            )
        for name, title in (("ray", "Ray"), ("python", "Python")):
            own, heads = _minor(name, node), _minor(name, head)
            if own and heads and own != heads:
                yield (
                    f"node {node.ip} has {title} {own}, the head has {heads}; install the same "
                    "there"
                )


def _minor(name: str, node: NodeFindings) -> str:
    """Python's version without its last part, which may differ; Ray's whole one."""
    whole = node.versions.get(name, "")
    return whole.rpartition(".")[0] if name == "python" else whole


def _storage(run: str) -> str:
    address, mark, query = run.partition("?")
    return f"{address.rpartition('/')[0] or '/'}{mark}{query}"


def table_of(findings: Findings) -> Table:
    """A row for each node."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("node", "data", "storage", "foldblend", "Ray", "Python", "free disk"):
        table.add_column(title, no_wrap=title != "data", justify="left")
    for node in findings.nodes:
        name = f"{node.ip} (head)" if node.is_head else node.ip
        if node.silent:
            table.add_row(name, Text(node.silent, "red"))
            continue
        wrong = [key for key in node.wrong if key != STORAGE]
        data = Text(f"no {', '.join(wrong)}", "red") if wrong else Text("ok", "green")
        stored = Text("no", "red") if STORAGE in node.wrong else Text("ok", "green")
        table.add_row(name, data, stored, *_version_cells(node.versions), _size(node.free_bytes))
    return table


def has_no_worker(findings: Findings, head_cpus: float) -> bool:
    """Whether the head is alone and has nothing to run a fold on."""
    return len(findings.nodes) == 1 and head_cpus == 0.0


def _version_cells(versions: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(versions.get(name, "?") for name in ("foldblend", "ray", "python"))


def _size(free_bytes: int | None) -> str:
    return "?" if free_bytes is None else f"{free_bytes / 1e9:,.0f} GB"
