"""What the cluster can see: runs on its head as a short job, before a search is queued.

Prints one line of JSON after a mark (`Findings`). Everything is looked at where it will be used:
a task of no resources on every living node looks for the data, writes into the storage and reads
there what the head has written, so that a disk which is not shared is found before the search.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from glob import glob
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ensemble.files import Location
from tuner.cluster.needs import Need, Needs, data_needs

MARK = "foldblend-findings:"
# A node may have to start a worker process first, on a busy disk.
NODE_SECONDS = 120.0
PACKAGES = ("foldblend", "ray")
# Where a node keeps decoded images, the first that is set (`trainables/sources.py`).
CACHE_VARIABLES = ("FOLDBLEND_CACHE_DIR", "XDG_CACHE_HOME")


@dataclass(frozen=True)
class NodeFindings:
    """What one node sees. `wrong`: one line each, by key ("data.path", "storage"); `free_bytes` of
    the disk for decoded images. `silent`: why it said nothing, None where it did."""

    ip: str
    is_head: bool
    wrong: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    free_bytes: int | None = None
    silent: str | None = None


@dataclass(frozen=True)
class Findings:
    """`run`: the run directory as the head names it (`~` replaced). `wrong`: with the run itself,
    None where all is well. `nodes`: the head first."""

    run: str
    wrong: str | None
    nodes: tuple[NodeFindings, ...]

    def to_line(self) -> str:
        return f"{MARK}{json.dumps(asdict(self))}"

    @classmethod
    def from_log(cls, log: str) -> Findings | None:
        """The findings in a job's log; None where the job did not come that far."""
        for line in reversed(log.splitlines()):
            if line.startswith(MARK):
                raw = json.loads(line.removeprefix(MARK))
                nodes = tuple(NodeFindings(**one) for one in raw["nodes"])
                return cls(raw["run"], raw["wrong"], nodes)
        return None


def check_cluster(needs: Needs) -> Findings:
    """Look at everything, from the head and from every living node of the cluster this runs on."""
    run = Location.of(needs.run)
    wrong, needs = _check_run(run, needs)
    trial = _parent(run) / f".foldblend-check-{uuid.uuid4().hex[:12]}"
    try:
        head, word = _look_from_head(needs, trial)
        nodes = (head, *_ask_nodes(needs, trial, word))
    finally:
        _remove(trial)
    return Findings(str(run), wrong, nodes)


def look(needs: Sequence[Need], cache: str | None) -> NodeFindings:
    """What this machine sees of the data, with its versions and free disk."""
    wrong = {need.key: why for need in needs if (why := _why_unreadable(need.path))}
    return NodeFindings("", False, wrong, _versions(), _free_bytes(cache))


def look_with_storage(needs: Needs, trial: str, word: str, name: str) -> NodeFindings:
    """`look` from a node that is not the head: reads the head's `word`, answers with its own."""
    found = look([need for need in needs.paths if need.everywhere], needs.cache)
    folder = Location.of(trial)
    try:
        if (folder / "head").read_text() != word:
            raise OSError("another file is there")
    except (OSError, ValueError) as error:
        why = f"is not what the head sees there ({_line(error)}): a disk of one machine"
        return _with_storage(found, why)
    try:
        (folder / name).write_text(word)
    except OSError as error:
        return _with_storage(found, f"cannot be written: {_line(error)}")
    return found


# --- the parts ---------------------------------------------------------------------------------


def _check_run(run: Location, needs: Needs) -> tuple[str | None, Needs]:
    """What is wrong with the run itself, and the needs with those that its run.yaml adds."""
    import yaml

    try:
        file = run / "run.yaml"
        if not needs.exists:
            return ("a run of this name exists" if file.exists() else None), needs
        if not file.exists():
            return "no run is there (it has no run.yaml)", needs
        data = yaml.safe_load(file.read_text())["config"]["data"]
        paths = (*needs.paths, *data_needs(data))
        return None, Needs(needs.run, True, paths, data.get("cache_dir"))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        return f"cannot be looked at: {_line(error)}", needs


def _look_from_head(needs: Needs, trial: Location) -> tuple[NodeFindings, str]:
    word = uuid.uuid4().hex
    found = look(needs.paths, needs.cache)
    try:
        (trial / "head").write_text(word)
        if (trial / "head").read_text() != word:
            raise OSError("what was written is not what is read")
    except (OSError, ValueError) as error:
        found = _with_storage(found, f"cannot be written: {_line(error)}")
    return replace(found, ip=_own_ip(), is_head=True), word


def _ask_nodes(needs: Needs, trial: Location, word: str) -> list[NodeFindings]:
    """Every living node but this one, all at the same time."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    own = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != own]
    task = ray.remote(num_cpus=0, max_retries=0)(look_with_storage)
    asked = {
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(needs, str(trial), word, node["NodeID"]): node["NodeManagerAddress"]
        for node in others
    }
    if asked:
        ray.wait(list(asked), num_returns=len(asked), timeout=NODE_SECONDS)
    return sorted((_answer(ref, ip) for ref, ip in asked.items()), key=lambda node: node.ip)


def _answer(ref: Any, ip: str) -> NodeFindings:
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    try:
        return replace(ray.get(ref, timeout=1.0), ip=ip)
    except GetTimeoutError:
        return NodeFindings(ip, False, silent=f"no answer in {NODE_SECONDS:.0f} s")
    except (RayError, ImportError) as error:
        missing = "ModuleNotFoundError" in str(error) and "tuner" in str(error)
        why = "foldblend is not installed there" if missing else _line(error)
        return NodeFindings(ip, False, silent=why)


def _with_storage(found: NodeFindings, why: str) -> NodeFindings:
    return replace(found, wrong={**found.wrong, "storage": why})


def _own_ip() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _why_unreadable(path: str) -> str | None:
    """None where the path, pattern or URI can be read."""
    if "://" in path:
        try:
            return None if Location.of(path).exists() else "nothing is there"
        except (OSError, ValueError, ImportError) as error:
            return _line(error)
    place = os.path.expanduser(path)
    if not os.path.exists(place):
        return None if glob(place) else "nothing is there"
    wanted = os.R_OK | os.X_OK if os.path.isdir(place) else os.R_OK
    return None if os.access(place, wanted) else "may not be read by this user"


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def _free_bytes(cache: str | None) -> int | None:
    """Of the disk that decoded images will go to."""
    named = [cache, *(os.environ.get(name) for name in CACHE_VARIABLES), "~/.cache"]
    place = Path(next(one for one in named if one)).expanduser()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def _parent(run: Location) -> Location:
    """The storage, of a run directory."""
    address, mark, query = run.uri.partition("?")
    return Location.of(f"{address.rpartition('/')[0] or '/'}{mark}{query}")


def _remove(trial: Location) -> None:
    try:
        trial.delete()
    except OSError:  # it was never made, or the storage is gone: said already
        return


def _line(error: BaseException) -> str:
    strerror = getattr(error, "strerror", None)
    lines = str(strerror or error).strip().splitlines()
    return (lines[-1] if lines else type(error).__name__)[:200]


def main(text: str) -> None:
    """Attach to the cluster this job runs on, look, print the line. `text`: `Needs` as JSON."""
    import logging

    import ray

    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    print(check_cluster(Needs.from_json(text)).to_line(), flush=True)
