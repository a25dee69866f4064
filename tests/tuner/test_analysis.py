from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ensemble.analysis.tables import TABLES
from ensemble.blend_value import read_blend
from ensemble.store import read_predictions
from tests.conftest import TinyImages, _write_images
from tests.tuner.test_finish import tiny_search
from tuner.analysis import analyse_run, analysed
from tuner.errors import UserError
from tuner.replayed import StoredRun, read_run


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> TinyImages:
    """Tiny photos, of which the last is the first again under another label."""
    made = _write_images(tmp_path_factory.mktemp("analysis") / "images", 2, 6, 32, 0)
    rng = np.random.default_rng(0)
    for name in made.ids:  # noise of its own: no two are alike
        pixels = rng.integers(0, 255, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(made.images / name, quality=95)
    shutil.copy(made.images / made.ids[0], made.images / made.ids[-1])
    return made


@pytest.fixture(scope="module")
def finished(images: TinyImages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    tiny_search(
        images,
        str(root),
        *("search.budget.configurations=2", "search.promotion.members=2"),
        *("blend.methods=[equal]", "blend.refits=0"),
    )
    return root / "run"


@pytest.fixture
def stored(finished: Path, tmp_path: Path) -> StoredRun:
    shutil.copytree(finished, tmp_path / "run")
    return read_run(str(tmp_path / "run"))


def test_every_table_lies_beside_the_run(stored: StoredRun, images: TinyImages) -> None:
    said: list[str] = []
    tables = analyse_run(stored, read_blend(stored.directory.blend), said.append)
    folder = stored.directory.root.local_path / "analysis"
    for name in (*TABLES, "duplicates", "reliability_before"):
        assert (folder / f"{name}.parquet").exists()
    assert (
        tables["rows"]["id"].to_pylist()
        == pq.read_table(stored.directory.folds.local_path)["id"].to_pylist()
    )
    assert "analysis: near-duplicate images" in said


def test_the_same_image_under_two_labels_is_found(stored: StoredRun, images: TinyImages) -> None:
    table = analyse_run(stored, read_blend(stored.directory.blend))["duplicates"]
    first = table.slice(0, 1).to_pylist()[0]
    assert {first["id_a"], first["id_b"]} == {images.ids[0], images.ids[-1]}
    assert first["label_a"] != first["label_b"]
    assert not first["same_label"]


def test_without_its_images_a_run_is_analysed_all_the_same(
    stored: StoredRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = stored.directory.folds.local_path
    folds = pq.read_table(table)
    moved = folds.set_column(
        folds.column_names.index("path"),
        "path",
        [[f"/nowhere/{row}.jpg" for row in range(len(folds))]],
    )
    pq.write_table(moved.replace_schema_metadata(folds.schema.metadata), table)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    tables = analyse_run(stored, read_blend(stored.directory.blend))
    assert "duplicates" not in tables
    assert len(tables["rows"]) == len(folds)


def test_an_analysis_decodes_no_images(
    stored: StoredRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another machine has searched, and a report is not worth fetching all of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    tables = analyse_run(stored, read_blend(stored.directory.blend))
    assert "duplicates" not in tables
    assert not (tmp_path / "empty").exists()


def test_the_analysis_looks_at_nested_predictions(stored: StoredRun) -> None:
    nested, _ = read_predictions(stored.directory.root / "blend_oof.parquet")
    blend = read_blend(stored.directory.blend)
    given = analysed(blend, nested, lambda name: nested.proba)
    np.testing.assert_array_equal(given.blend, nested.proba)
    assert given.names == tuple(one.config_id for one in blend.members)


def test_a_blend_of_an_earlier_version_is_to_be_made_again(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "my run")
    stored = read_run(str(tmp_path / "my run"))
    (stored.directory.root / "blend_oof.parquet").delete()
    with pytest.raises(UserError, match=r"blend_oof.parquet: not there.*`foldblend blend '/.*'`"):
        analyse_run(stored, read_blend(stored.directory.blend))
