"""Machines of a cluster, here as processes with a cache folder of their own each: every one fills
its own cache once, and none waits for another."""

from __future__ import annotations

import logging
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TinyImages
from tests.trainables.stores import new_place, upload
from tests.trainables.tiny_run import TinyRun, prepare_tiny_run
from trainables.cache_bound import locked
from trainables.image_cache import lock_path
from trainables.run_data import load_run_data, shared_run_data

SPAWN = multiprocessing.get_context("spawn")


def load_on_node(run: str, node: str) -> tuple[str, int, int]:
    """As a worker of the machine `node` begins: where its cache lies, the sum of its pixels, and
    how many images it decoded itself."""
    os.environ["FOLDBLEND_CACHE_DIR"] = node
    decoded: list[int] = []
    data = load_run_data(run, lambda done, total: decoded.append(done))
    return str(data.cache.path), int(data.cache.pixels.sum()), len(decoded)


def entries(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.slow
def test_workers_that_start_at_once_fill_their_machines_cache_once(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    shared = entries(tiny_run.root)
    path, pixels, decoded = load_on_node_in_turn(tiny_run, first)
    assert (decoded, Path(path).parent) == (30, first / "images")
    with ProcessPoolExecutor(3, mp_context=SPAWN) as pool:
        waiting = [pool.submit(load_on_node, str(tiny_run.root), str(second)) for _ in range(3)]
        found = [one.result() for one in waiting]
    assert sorted(one[2] for one in found) == [0, 0, 30]
    assert {one[:2] for one in found} == {(str(second / "images" / Path(path).name), pixels)}
    assert entries(tiny_run.root) == shared  # nothing, no lock either, on what machines share


def load_on_node_in_turn(run: TinyRun, node: Path) -> tuple[str, int, int]:
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(load_on_node, str(run.root), str(node)).result()


@pytest.mark.slow
def test_fold_runs_go_on_while_a_machine_that_joined_late_decodes(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    late = tmp_path / "late" / "images"
    late.mkdir(parents=True)
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        with locked(lock_path(late / tiny_run.data.cache.path.name)):  # it takes as long as we like
            joining = pool.submit(load_on_node, str(tiny_run.root), str(late.parent))
            results = tiny_run.finish()
            assert results[-1].done
            assert not joining.done()
        _, pixels, decoded = joining.result()
    assert decoded == 30
    assert pixels == int(tiny_run.data.cache.pixels.sum())


@pytest.mark.slow
def test_a_machine_fills_its_cache_from_an_object_store(
    run_images: TinyImages, s3_endpoint: str, tmp_path: Path
) -> None:
    place = new_place(s3_endpoint)
    upload(run_images.root, place)
    run = prepare_tiny_run(
        tmp_path,
        run_images,
        f"data.path='{(place / run_images.csv.name).uri}'",
        f"data.images='{(place / run_images.images.name).uri}'",
    )
    _, pixels, decoded = load_on_node_in_turn(run, tmp_path / "node")
    assert decoded == 24
    assert pixels == int(run.data.cache.pixels.sum())
    assert set(run.data.folds.paths) == {
        (place / run_images.images.name / name).uri for name in run_images.ids
    }


def test_a_worker_s_log_says_that_it_decodes(
    tiny_run: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("FOLDBLEND_CACHE_DIR", str(tmp_path / "node"))
    shared_run_data.cache_clear()
    with caplog.at_level(logging.INFO, logger="trainables"):
        data = shared_run_data(str(tiny_run.root))
    assert "decodes 30 images for its cache" in caplog.messages[0]
    assert caplog.messages[-1].startswith(f"decoded 30 images into {data.cache.path}: ")
    np.testing.assert_array_equal(data.cache.pixels, tiny_run.data.cache.pixels)
