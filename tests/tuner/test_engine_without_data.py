"""A search on a real Ray of two nodes, of which one cannot read the images."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster
from rich.console import Console

from ensemble.files import Location
from tests.conftest import MakeTinyImages
from tests.own_process import without_tokens
from tests.trainables.stores import upload
from tuner import events as ev
from tuner.race import FoldRun, Status
from tuner.ray_edge import RaceScheduler
from tuner.study import search

pytestmark = pytest.mark.slow


@pytest.fixture
def empty_store(tmp_path: Path) -> Iterator[str]:
    """A server that has nothing. (All of moto's servers in one process hold the same objects.)"""
    (tmp_path / "empty").mkdir()
    nothing = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "empty"))
    with ThreadingHTTPServer(("127.0.0.1", 0), nothing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Ended:
    """What a search left."""

    failed: tuple[ev.Failed, ...]
    runs: tuple[FoldRun, ...]
    has_blend: bool


def story(data: str, folder: Path, wrong: dict[str, str]) -> Ended:
    """The search. The head finds the images; the other node has the variables `wrong`."""
    hear = RaceScheduler.on_trial_result

    def slowly(*heard: Any) -> str:
        """So that the other node begins while there is work left."""
        time.sleep(1.0)
        return hear(*heard)

    arguments = [
        *("experiment=scratch", f"storage={folder}", "name=run", "data=folder"),
        *(f"data.path={data}", "folds.k=2", "train.image_size=32", "train.epochs=3"),
        *("backbone=test_resnet", "augment=none", "optimizer.lr=interval(1e-3,4e-3)"),
        *("search.budget.configurations=4", "search.promotion.members=1"),
        *("search.pruning.enabled=false", "blend.bootstrap=20"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        try:
            cluster.add_node(num_cpus=1, env_vars=wrong)
            patch.setattr(RaceScheduler, "on_trial_result", slowly)
            patch.setenv("RAY_ADDRESS", cluster.address)
            outcome = search(arguments, console=Console(quiet=True))
        finally:
            cluster.shutdown()
    stored = outcome.stored
    failed = tuple(one.event for one in stored.records if isinstance(one.event, ev.Failed))
    return Ended(failed, tuple(stored.race.runs.values()), outcome.blend is not None)


def test_fold_runs_of_a_node_without_the_images_are_run_elsewhere(
    s3_endpoint: str,
    empty_store: str,
    monkeypatch: pytest.MonkeyPatch,
    tiny_images: MakeTinyImages,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    images = tiny_images(classes=2, per_class=4)
    data = Location.of(f"s3://runs/{tmp_path.name}")
    upload(images.folder, data)
    wrong = {"AWS_ENDPOINT_URL": empty_store, "FOLDBLEND_CACHE_DIR": str(tmp_path / "bare")}
    ended: Ended = without_tokens(story, str(data), tmp_path, wrong)
    assert len(ended.failed) == 1, "the node keeps its slot: nothing more is sent there"
    assert ended.failed[0].node_lost
    assert f"cannot read the images: {data}/" in ended.failed[0].error
    assert "no such object" in ended.failed[0].error
    assert {run.status for run in ended.runs} == {Status.FINISHED}
    assert [run.failures for run in ended.runs] == [0] * len(ended.runs)
    assert ended.has_blend
