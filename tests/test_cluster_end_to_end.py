"""The cluster as a user has it: `ray up`, submit, a worker cut off and back, fetch, `ray down`.

Three hosts and a laptop, each with processes, disk and network of its own (tests/hosts). The tests
run in the order of the file and share one cluster.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import TinyImages, _write_images
from tests.hosts import firewall
from tests.hosts.hosts import Host, hosts
from tests.hosts.listening import DOCUMENT, Socket, answers, listening, row_of, rows
from tests.hosts.onprem import ENVIRONMENT, Cluster
from tests.hosts.patience import until
from tests.hosts.possible import reason_not
from tests.test_kill import assert_nothing_twice, records

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(reason_not()), reason=reason_not()),
]
# A socket, and its answer to no token and to a wrong one.
Asked = tuple[Socket, dict[str, str]]
WORKER_PORTS = 10100
NAMES = ("head", "worker-1", "worker-2")


@dataclass(frozen=True)
class Searched:
    """A search that went through it all. `job`: its id; `run`: its directory. While fold runs ran:
    what listened and how it `asked` for a token."""

    job: str
    run: Path
    images: TinyImages
    asked: list[Asked]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file system that all hosts see."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def cluster(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("hosts")
    with hosts(folder, NAMES, [shared]) as made:
        if not firewall.reason_not():
            firewall.load(made.others, admins=[made.laptop])
        cluster = Cluster(made, folder / "cluster.yaml")
        cluster.up()
        yield cluster


@pytest.fixture(scope="module")
def tunnel(cluster: Cluster) -> Iterator[None]:
    with cluster.tunnel():
        yield


@pytest.fixture(scope="module")
def searched(cluster: Cluster, shared: Path) -> Searched:
    """A search during which the laptop is switched off and a worker is cut off and comes back."""
    images = _write_images(shared / "images", 3, 12, 32, 0)
    run = shared / "runs" / "small"
    with cluster.tunnel():
        said = cluster.call("foldblend", "submit", "--no-follow", *_overrides(images, run)).stdout
    job = next(word for word in said.split() if word.startswith("foldblend-small-"))

    first, second = cluster.workers
    until(
        lambda: _reported(run) >= 2 and all(fold_runs(worker) for worker in cluster.workers),
        "no fold run on every worker",
        cluster.why,
    )
    # Held as if their epochs were long ones: the search still runs when a worker is back.
    _send(second, signal.SIGSTOP)
    asked = _ask_strangers(cluster, hold=first)
    cluster.laptop.kill()
    before = fold_runs(first)
    first.cut()
    _send(first, signal.SIGCONT)
    until(lambda: bool(failed(run)), "nobody noticed that a worker was cut off", cluster.why)
    first.mend()
    until(lambda: bool(fold_runs(first) - before), "no fold run on it again", cluster.why)
    _send(second, signal.SIGCONT)

    cluster.laptop.boot()
    return Searched(job, run, images, asked)


def _ask_strangers(cluster: Cluster, *, hold: Host) -> list[Asked]:
    """Everything that listens, asked. A process that is held cannot answer: the fold runs of `hold`
    are asked first, then held; those of the other worker are held already, and left out."""
    table = rows(DOCUMENT.read_text())
    every = [socket for host in cluster.hosts.others for socket in listening(host)]
    fold_run_ports = [
        socket
        for socket in every
        if socket.host in cluster.workers and row_of(socket, table).first == WORKER_PORTS
    ]
    asked = _ask(cluster, [socket for socket in fold_run_ports if socket.host is hold])
    _send(hold, signal.SIGSTOP)
    return asked + _ask(cluster, [socket for socket in every if socket not in fold_run_ports])


def _ask(cluster: Cluster, sockets: list[Socket]) -> list[Asked]:
    """From another machine of the cluster, or on the machine itself where it lets in no other."""
    asked: list[Asked] = []
    for host in cluster.hosts.others:
        other = cluster.workers[0] if host is cluster.head else cluster.head
        mine = [socket for socket in sockets if socket.host is host]
        inside = [one for one in mine if one.is_local or not firewall.lets_in(one.port)]
        outside = [one for one in mine if one not in inside]
        asked += zip(inside, answers(host, inside), strict=True)
        asked += zip(outside, answers(other, outside), strict=True)
    return asked


def _overrides(images: TinyImages, run: Path) -> list[str]:
    return [
        *("experiment=scratch", f"storage={run.parent}", f"name={run.name}", "data=csv"),
        *(f"data.path={images.csv}", f"data.images={images.images}", "train.image_size=32"),
        *(f"data.test_images={images.images}", "folds.k=3", "train.epochs=60"),
        *("backbone=choice(test_resnet,test_efficientnet)", "augment=light"),
        *("search.budget.configurations=4", "search.promotion.members=2"),
        "search.resources.cpus=1",
    ]


def _reported(run: Path) -> int:
    events = [record["event"] for record in records(run)]
    return len({event["config_id"] for event in events if event["type"] == "Reported"})


def failed(run: Path) -> list[dict]:
    return [one["event"] for one in records(run) if one["event"]["type"] == "Failed"]


def fold_runs(host: Host) -> set[int]:
    """The processes of fold runs there; Ray names a process after the task that it does."""
    return {
        process
        for process, command in host.processes().items()
        if command.startswith("ray::") and "-fold" in command
    }


def _send(host: Host, number: signal.Signals) -> None:
    for process in fold_runs(host):
        os.kill(process, number)


def test_a_search_goes_on_without_the_laptop_and_through_the_loss_of_a_worker(
    cluster: Cluster, searched: Searched, tunnel: None
) -> None:
    log = cluster.call("foldblend", "logs", searched.job, "-f", timeout_seconds=300).stdout
    jobs = cluster.call("foldblend", "jobs").stdout
    assert searched.job in jobs
    assert "succeeded" in jobs.lower(), jobs + log
    assert "lost" in failed(searched.run)[0]["error"]


def test_what_listens_is_what_the_document_says(searched: Searched) -> None:
    table = rows(DOCUMENT.read_text())
    unseen = set(table)
    for socket, answer in searched.asked:
        row = row_of(socket, table)
        side = "head" if socket.host.name == "head" else "workers"
        assert side in row.hosts, socket
        assert socket.binds in row.binds, socket
        refused = ({"401", "UNAUTHENTICATED"}, {"403", "UNAUTHENTICATED"})
        assert (answer["none"] in refused[0]) == row.asks, (socket, answer)
        assert (answer["wrong"] in refused[1]) == row.asks, (socket, answer)
        unseen.discard(row)
    assert not unseen


@pytest.mark.skipif(bool(firewall.reason_not()), reason=firewall.reason_not())
def test_the_document_s_firewall_lets_in_ssh_alone(cluster: Cluster, searched: Searched) -> None:
    """And a cluster works behind it: it was loaded before `ray up`."""
    ports = sorted({socket.port for socket, _ in searched.asked} | {22})
    for host in cluster.hosts.others:
        assert firewall.open_ports(cluster.laptop, host, ports) == [22]


def test_nothing_is_counted_twice(searched: Searched) -> None:
    assert_nothing_twice(searched.run)
    events = [one["event"] for one in records(searched.run)]
    epochs = Counter(
        (event["config_id"], event["fold"], event["epoch"])
        for event in events
        if event["type"] in ("Reported", "Finished")
    )
    assert max(epochs.values()) == 1
    assert sum(event["type"] == "Proposed" for event in events) == 4
    assert len(json.loads((searched.run / "blend.json").read_text())["members"]) == 2


def test_what_is_fetched_predicts_what_the_cluster_predicts(
    cluster: Cluster, searched: Searched, shared: Path, tunnel: None
) -> None:
    there, here = shared / "there", shared / "here"
    images = searched.images.images
    script = f"""set -e; mkdir {there}; foldblend export {searched.run} -o {there}/bundle
        foldblend predict {there}/bundle {images} -o {there}/labels.csv -p {there}/all.parquet"""
    log = shared / "there.log"
    head = cluster.head.start("sh", "-c", script, log=log, env=ENVIRONMENT)
    cluster.call("foldblend", "fetch", searched.job, "-o", shared / "laptop")
    fetched = shared / "laptop" / "small"
    here.mkdir()
    files = ("-o", here / "labels.csv", "-p", here / "all.parquet")
    cluster.call("foldblend", "predict", fetched / "bundle", images, *files)
    assert head.wait(timeout=180) == 0, log.read_text()
    for name in ("labels.csv", "all.parquet"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert "<html" in (fetched / "report.html").read_text()


def test_the_jobs_are_listed_by_the_head_s_own_address_too(
    cluster: Cluster, searched: Searched
) -> None:
    address = ("--address", "http://127.0.0.1:8265")
    assert searched.job in cluster.call("foldblend", "jobs", *address, on=cluster.head).stdout


def test_ray_down_leaves_no_process_of_ray_on_any_host(cluster: Cluster) -> None:
    cluster.down()
    for host in cluster.hosts.others:
        until(
            lambda host=host: not rays(host),
            f"{host.name} still runs Ray",
            lambda host=host: "\n".join(rays(host)),
        )


def rays(host: Host) -> list[str]:
    commands = host.processes().values()
    return [one for one in commands if "ray::" in one or "/ray/" in one or "ray start" in one]
