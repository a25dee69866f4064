from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.ensemble.conftest import BUCKET
from tests.tuner.cluster.broken_tunnel import tunnel
from tests.tuner.cluster.parcel_server import ParcelServer, serving
from tests.tuner.cluster.ray_head import RayHead, ray_head
from tuner.cluster import fetch as fetch_module
from tuner.cluster import transfer
from tuner.cluster.contents import EVERYTHING, Item
from tuner.cluster.errand import Answer
from tuner.cluster.fetch import Fetched, fetch
from tuner.cluster.parcel import PARCELS_FOLDER, Receipt, pack
from tuner.cluster.parcel_format import sha256
from tuner.cluster.transfer import RemoteParcel, read_manifest
from tuner.cluster.trouble import RefusedError
from tuner.errors import UserError

RUN = "/data/runs/first"
QUIET = Console(quiet=True)


def no_cluster() -> Any:
    raise AssertionError("no cluster is needed here")


# --- against a cluster that is played ---------------------------------------------------------


@pytest.fixture
def files() -> dict[str, bytes]:
    return {"bundle/ensemble.json": b"{}", "report.html": b"<html>", "run.yaml": b"version: 1"}


@pytest.fixture
def cluster(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ParcelServer]:
    """Packs `files` whatever is asked for. `errands` of it: the commands that were run there."""
    logs = tmp_path / "logs"
    (logs / PARCELS_FOLDER).mkdir(parents=True)
    with serving(logs) as server:
        server.errands = []  # type: ignore[attr-defined]

        def errand(connection: Any, purpose: str, command: Any, **settings: Any) -> Answer:
            server.errands.append(list(command))  # type: ignore[attr-defined]
            if purpose != "fetch":
                return Answer(0, "")
            items = [Item(name, data, len(data), 0) for name, data in files.items()]
            manifest = pack(RUN, items, logs / PARCELS_FOLDER / "k-s", print, part_bytes=8)
            receipt = Receipt("k-s", "node", sha256(manifest.to_bytes()))
            return Answer(0, f"packing\n{receipt.to_line()}\n")

        monkeypatch.setattr(fetch_module, "run_errand", errand)
        yield server


def test_a_run_comes_through_the_dashboard(
    cluster: ParcelServer, files: dict[str, bytes], tmp_path: Path
) -> None:
    fetched = fetch(RUN, tmp_path / "here", EVERYTHING, QUIET, cluster.connection)
    assert fetched.folder == tmp_path / "here" / "first"
    assert {name: (fetched.folder / name).read_bytes() for name in files} == files
    assert fetched.bundle == fetched.folder / "bundle"
    assert (fetched.size_bytes, fetched.came_bytes) == (18, 18)


def test_the_cluster_is_told_what_to_pack_and_then_to_drop_it(
    cluster: ParcelServer, tmp_path: Path
) -> None:
    fetch("/data/it's; rm -rf/first", tmp_path, ("oof",), QUIET, cluster.connection)
    packed, dropped = cluster.errands  # type: ignore[attr-defined]
    assert packed[:4] == ["foldblend", "pack-run", "--what", "oof"]
    assert packed[-2:] == ["--", "/data/it's; rm -rf/first"]
    assert dropped == ["foldblend", "drop-parcel", "k-s"]


def test_a_job_is_fetched_by_the_run_that_it_names(
    cluster: ParcelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = SimpleNamespace(
        submission_id="foldblend-first-0a1b2c3d",
        metadata={"foldblend_run": RUN, "foldblend_name": "first"},
    )
    other = SimpleNamespace(submission_id="other", metadata={})
    connection = cluster.connection()
    monkeypatch.setattr(connection, "jobs", lambda: [job, other])
    fetched = fetch("foldblend-first-0a1b2c3d", tmp_path, EVERYTHING, QUIET, lambda: connection)
    assert fetched.run == RUN
    with pytest.raises(UserError, match=r"other: this job was not made by `foldblend submit`"):
        fetch("other", tmp_path, EVERYTHING, QUIET, lambda: connection)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (Answer(2, "a warning\nerror: /x: the head sees no run there\n"), "the head sees no run"),
        (Answer(2, "Error: No such command 'pack-run'.\n"), "install the same foldblend there"),
        (Answer(1, "Traceback:\nMemoryError\n"), r"packing ended with code 1: MemoryError"),
        (Answer(137, ""), "packing ended with code 137: it said nothing"),
        (Answer(0, "nothing of ours\n"), "packing ended with code 0: nothing of ours"),
    ],
)
def test_what_the_cluster_complains_about_is_told_in_one_line(
    cluster: ParcelServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    line: str,
) -> None:
    monkeypatch.setattr(fetch_module, "run_errand", lambda *given, **settings: answer)
    with pytest.raises(UserError, match=line) as caught:
        fetch(RUN, tmp_path / "here", EVERYTHING, QUIET, cluster.connection)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "here" / "first").exists()


@pytest.mark.parametrize("run", ["/", "/data/..", "s3://bucket/.", "/data/a b", "/data/.hidden"])
def test_a_run_whose_name_is_no_folder_is_refused(
    cluster: ParcelServer, tmp_path: Path, run: str
) -> None:
    with pytest.raises(UserError, match="expected a run directory such as"):
        fetch(run, tmp_path, EVERYTHING, QUIET, cluster.connection)


def test_a_progress_bar_ends_at_the_last_byte(
    cluster: ParcelServer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    terminal = Console(force_terminal=True, width=100)
    fetch(RUN, tmp_path, EVERYTHING, terminal, cluster.connection)
    shown = capsys.readouterr().out
    assert "packing on the cluster" in shown
    assert "18/18 bytes" in shown
    fetch(RUN, tmp_path, EVERYTHING, Console(force_terminal=False), cluster.connection)
    assert "fetching" not in capsys.readouterr().out


# --- a run that this machine can read itself ----------------------------------------------------


def made_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever run is asked for holds two files."""
    items = (Item("run.yaml", b"version: 1", 10, 0), Item("oof/a", b"abc", 3, 0))
    monkeypatch.setattr(fetch_module, "contents", lambda run, what, say: items)


def test_a_run_on_an_object_store_is_copied_without_the_cluster(
    s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ensemble.files import Location

    run = f"s3://{BUCKET}/second?endpoint_override={s3_endpoint}"
    (Location.of(run) / "run.yaml").write_text("version: 1")
    made_run(monkeypatch)
    fetched = fetch(run, tmp_path, ("oof",), QUIET, no_cluster)
    assert (fetched.folder, fetched.source) == (tmp_path / "second", run)
    assert (fetched.folder / "oof" / "a").read_bytes() == b"abc"


def test_without_keys_for_the_object_store_the_cluster_is_asked(
    cluster: ParcelServer,
    files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in fetch_module.S3_KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    fetched = fetch("s3://bucket/first", tmp_path, EVERYTHING, QUIET, cluster.connection)
    assert fetched.source == cluster.url
    assert sorted(fetched.names) == sorted(files)


def test_a_run_directory_of_this_machine_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "run.yaml").write_text("version: 1")
    made_run(monkeypatch)
    run = str(tmp_path / "runs" / "first")
    assert fetch(run, tmp_path / "here", ("oof",), QUIET, no_cluster).came_bytes == 13
    with pytest.raises(UserError, match="was not made by `foldblend fetch`"):
        fetch(run, tmp_path / "runs", ("oof",), QUIET, no_cluster)


# --- against a real cluster ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with ray_head() as running:
        yield running


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search with test images."""
    from tests.conftest import _write_images
    from tuner.study import search

    root = tmp_path_factory.mktemp("cluster")
    images = _write_images(root / "images", 3, 8, 32, 0)
    new = _write_images(root / "new", 3, 2, 32, 1)
    search(
        [
            *("experiment=scratch", f"storage={root / 'runs'}", "name=tiny", "data=csv"),
            *(f"data.path={images.csv}", f"data.images={images.images}"),
            *(f"data.test_images={new.images}", "folds.k=2", "train.image_size=32"),
            *("backbone=test_resnet", "augment=none", "train.epochs=1", "blend.bootstrap=50"),
            *("search.budget.configurations=2", "search.promotion.members=2"),
        ],
        console=QUIET,
        in_process=True,
    )
    return root / "runs" / "tiny"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "PART_BYTES", 200_000)


@pytest.fixture
def not_seen_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run lies on the cluster's disks, which happen to be this machine's."""
    monkeypatch.setattr(fetch_module, "_can_read", lambda run: False)


def bring(head: RayHead, run: Path, output: Path, url: str | None = None) -> Fetched:
    return fetch(str(run), output, EVERYTHING, QUIET, lambda: head.connection(url))


def parcels(head: RayHead) -> list[Path]:
    return [path for path in (head.logs / PARCELS_FOLDER).iterdir() if path.is_dir()]


def predictions(bundle: Path, images: Path) -> np.ndarray:
    from trainables.bundle import read_bundle
    from trainables.bundle_predict import predict_images

    paths = sorted(str(path) for path in images.iterdir())
    return predict_images(read_bundle(bundle), bundle, paths)


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts", "not_seen_here")
def test_a_fetch_that_is_interrupted_goes_on_and_the_bundle_predicts_the_same(
    head: RayHead, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.bundle import export_bundle

    put, came = transfer._put, []

    def interrupted(*values: Any) -> None:
        if len(came) == 5:
            raise KeyboardInterrupt
        put(*values)
        came.append(values)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bring(head, run, tmp_path)
    assert not (tmp_path / "tiny").exists()
    (parcel,) = parcels(head)
    packed = (parcel / "manifest.json").stat().st_mtime_ns, parcel.name

    def watched(*values: Any) -> None:
        if values and not came:
            assert packed == ((parcel / "manifest.json").stat().st_mtime_ns, parcel.name)
        put(*values)
        came.append(values)

    came.clear()
    monkeypatch.setattr(transfer, "_put", watched)
    fetched = bring(head, run, tmp_path)
    assert fetched.came_bytes == fetched.size_bytes - 5 * 200_000
    assert parcels(head) == [], "the head's disk is given back"

    for name in ("report.html", "blend.json", "folds.parquet", "fold_runs.parquet", "run.yaml"):
        assert (tmp_path / "tiny" / name).read_bytes() == (run / name).read_bytes()
    for kind in ("oof", "test", "analysis"):
        here = {p.relative_to(tmp_path / "tiny"): p for p in (tmp_path / "tiny" / kind).rglob("*")}
        there = {p.relative_to(run): p for p in (run / kind).rglob("*")}
        assert here.keys() == there.keys()
    export_bundle(str(run), tmp_path / "on-the-cluster")
    images = run.parents[1] / "new" / "images"
    ours = predictions(tmp_path / "tiny" / "bundle", images)
    np.testing.assert_array_equal(ours, predictions(tmp_path / "on-the-cluster", images))


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts", "not_seen_here")
def test_a_tunnel_that_breaks_in_the_middle_is_waited_for(
    head: RayHead, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tunnel(head.url) as way:
        begin = fetch_module.download

        def breaking(*values: Any, **more: Any) -> int:
            way.bytes_left = 1_050_000
            return begin(*values, **more)

        monkeypatch.setattr(fetch_module, "download", breaking)
        fetched = bring(head, run, tmp_path, way.url)
        assert way.cuts == 1
    assert fetched.came_bytes == fetched.size_bytes


@pytest.mark.slow
@pytest.mark.usefixtures("not_seen_here")
def test_what_is_fetched_is_a_run_to_work_on(head: RayHead, run: Path, tmp_path: Path) -> None:
    from ensemble.blend_value import read_blend
    from ensemble.files import Location
    from tuner.finish import blend_stored
    from tuner.replayed import read_run
    from tuner.report_command import report_run

    folder = bring(head, run, tmp_path).folder
    stored = read_run(str(folder))
    assert blend_stored(stored) == read_blend(Location.of(run / "blend.json"))
    assert report_run(stored, lambda text: None).local_path == folder / "report.html"


@pytest.mark.slow
@pytest.mark.usefixtures("not_seen_here")
def test_a_run_that_the_head_does_not_have_is_its_own_word(head: RayHead, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the head of the cluster sees no run there"):
        bring(head, tmp_path / "nowhere", tmp_path)


def until_ray_says_why(source: RemoteParcel, name: str) -> None:
    """In one of two hundred cases Ray answers with nothing instead of its error."""
    for _ in range(5):
        assert not b"".join(source.read(name))


@pytest.mark.slow
def test_ray_hands_out_every_byte_as_it_is_and_nothing_without_the_token(head: RayHead) -> None:
    """What the whole way stands on: raw bytes, sub-folders, big files, 401, no way out."""
    folder = head.logs / PARCELS_FOLDER / "raw"
    folder.mkdir(parents=True)
    data = bytes(range(256)) * 150_000 + b"\x1b[31mred\x1b[0m\r\n\r\n\n\x00"
    pack(RUN, [Item("a", data, len(data), 0), Item("b", b"", 0, 0)], folder, print, 1 << 27)
    (node,) = head.connection().nodes()
    source = RemoteParcel(head.connection(), Receipt("raw", node.node_id, ""))
    assert b"".join(source.read("part-00000")) == data
    digest = sha256((folder / "manifest.json").read_bytes())
    assert read_manifest(source, digest).size_bytes == len(data)
    (folder / "empty").touch()
    assert b"".join(source.read("empty")) == b""
    for token in ("", "another"):
        stranger = head.connection()
        stranger.token = type(stranger.token)(token or None, "a test")
        with pytest.raises(RefusedError):
            list(RemoteParcel(stranger, source.receipt).read("part-00000"))
    with pytest.raises(transfer.GoneError):
        until_ray_says_why(source, "missing")
    with pytest.raises(UserError, match="/etc/passwd not in"):
        until_ray_says_why(source, "../../../../../../../../etc/passwd")
    shutil.rmtree(folder)
