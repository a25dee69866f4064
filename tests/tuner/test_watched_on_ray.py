"""A search on a real Ray, watched as people watch it: names, metrics, progress lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

import pandas as pd
import pytest

from tests.conftest import MakeTinyImages
from tests.ports import free_port
from tuner.metrics import RAY_PREFIX, SPECS
from tuner.progress_line import last_progress, parse_progress

pytestmark = pytest.mark.slow

START_SECONDS, SEARCH_SECONDS = 180.0, 900.0


@dataclass(frozen=True)
class Head:
    """A Ray with a dashboard of its own. `env`: what a client of it needs."""

    env: dict[str, str]
    dashboard: str
    metrics: str
    process: subprocess.Popen[str]


@pytest.fixture
def head() -> Iterator[Head]:
    with TemporaryDirectory(prefix="ray") as folder:  # short: sockets lie in it
        token = Path(folder) / "token"
        token.write_text(os.urandom(32).hex())
        port, dashboard, metrics = free_port(), free_port(), free_port()
        env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        env |= {"RAY_metrics_report_interval_ms": "1000"}
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
                *("--node-ip-address", "127.0.0.1", "--port", str(port)),
                *("--num-cpus", "2", "--temp-dir", folder),
                *("--dashboard-port", str(dashboard), "--metrics-export-port", str(metrics)),
                *("--ray-client-server-port", str(free_port()), "--disable-usage-stats"),
                *("--dashboard-agent-listen-port", str(free_port())),
                *("--min-worker-port", "0", "--max-worker-port", "0"),
            ],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        found = Head(
            env | {"RAY_ADDRESS": f"127.0.0.1:{port}"},
            f"http://127.0.0.1:{dashboard}",
            f"http://127.0.0.1:{metrics}/metrics",
            process,
        )
        try:
            wait_for(found, token.read_text())
            yield found
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


def wait_for(head: Head, token: str) -> None:
    asked = Request(f"{head.dashboard}/api/version", headers={"Authorization": f"Bearer {token}"})
    for _ in until(START_SECONDS):
        assert head.process.poll() is None, "the head ended"
        try:
            urlopen(asked, timeout=5).close()
        except OSError:
            continue
        return


def until(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.5)
    pytest.fail(f"not within {seconds:g} s")


@dataclass(frozen=True)
class Seen:
    """What was there at some time during the search."""

    actors: frozenset[str]
    tasks: frozenset[str]
    titles: frozenset[str]
    metrics: str
    log: str
    run: Path


@pytest.fixture
def seen(head: Head, tiny_images: MakeTinyImages, tmp_path: Path) -> Seen:
    images = tiny_images(classes=2, per_class=24)
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "tuner.cli", "search", "experiment=scratch", "name=run"),
            *(f"storage={tmp_path}", "data=csv", f"data.path={images.csv}"),
            *(f"data.images={images.images}", "folds.k=2", "train.image_size=32"),
            *("backbone=test_resnet", "augment=none", "train.epochs=4"),
            *("search.pruning.enabled=false", "search.budget.configurations=3"),
            *("search.promotion.members=2", "search.resources.slots=1", "optimizer.lr=2e-3"),
        ],
        env=head.env | {"FOLDBLEND_PROGRESS": "lines"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        titles: set[str] = set()
        scraped = ""
        for _ in until(SEARCH_SECONDS):
            titles |= set(process_titles())
            # Gone soon after the search's process is: so the last that were there count.
            scraped = our_metrics(head) or scraped
            if process.poll() is not None:
                break
        assert process.stdout is not None
        log = process.stdout.read()
        assert process.returncode == 0, log
    actors, tasks = names_in_the_state_api(head)
    return Seen(actors, tasks, frozenset(titles), scraped, log, tmp_path / "run")


def process_titles() -> Iterator[str]:
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield place.read_bytes().rstrip(b"\0").decode(errors="replace")
        except OSError:  # it has ended
            continue


def our_metrics(head: Head) -> str:
    try:
        with urlopen(head.metrics, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:  # it begins later than the dashboard does
        return ""
    return "\n".join(line for line in lines if line.startswith("ray_foldblend_"))


def names_in_the_state_api(head: Head) -> tuple[frozenset[str], frozenset[str]]:
    """Asked by another process: this one has its own settings of Ray."""
    asked = (
        "import sys; from ray.util.state import list_actors, list_tasks; address = sys.argv[1];"
        "print('\\n'.join(one.repr_name for one in list_actors(address, detail=True)));"
        "print('---');"
        "print('\\n'.join({one.name for one in list_tasks(address, limit=9999)}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked, head.dashboard],
        env=head.env,
        capture_output=True,
        text=True,
        check=True,
    )
    actors, _, tasks = done.stdout.partition("---\n")
    return frozenset(actors.split("\n")), frozenset(tasks.split("\n"))


def test_people_see_which_fold_run_runs_where_and_how_far_the_search_is(seen: Seen) -> None:
    rows = pd.read_parquet(seen.run / "fold_runs.parquet")
    names = {
        f"{row.backbone}-{row.config_id}-fold{row.fold}" for row in rows.itertuples(index=False)
    }
    assert len(names) == 5  # three on the probe fold, two of them on the other
    # One actor for all of them, named after the first; each has tasks of its own name.
    assert len({name for name in seen.actors if name.endswith("-fold0 (first)")}) == 1
    assert names <= seen.tasks
    assert {title for title in seen.titles if title.removeprefix("ray::") in names}
    assert set(rows["node"]) != {""}

    scraped = seen.metrics.splitlines()
    there = {line.partition("{")[0] for line in scraped}
    # So small a search may be over before a record follows its first blend.
    assert {RAY_PREFIX + spec.name for spec in SPECS} - there <= {"ray_foldblend_blended_score"}
    assert all('run="run"' in line for line in scraped)

    last = parse_progress(last_progress(seen.log) or "")
    assert last["configurations"] == "3/3"
    assert last["fold runs"] == "5"
    assert last["members"] == "2/2"
    assert float(last["blend"]) > 0
