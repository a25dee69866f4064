from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble.blend_value import write_blend
from tests.tuner.report.made_report import report_blend, stored_run, tables, write_tables
from trainables.folds import write_folds
from trainables.manifest import Manifest
from tuner.report.data import gather, higher_is_better, wanted_images


def test_a_run_is_gathered_with_all_that_the_page_shows(tmp_path: Path) -> None:
    stored = stored_run(tmp_path / "run")
    blend = report_blend(stored.race.members)
    write_blend(stored.directory.blend, blend)
    data = gather(stored)
    assert data.blend is not None
    assert data.blend.nested == blend.nested
    assert data.blend_problem == ""
    assert (data.name, data.metric, data.higher_is_better) == ("run", "log_loss", False)
    assert len(data.rows) == 9
    assert [one.config_id for one in data.failures] == ["c1"]
    assert data.backbone("c0") == "alpha"
    assert data.backbone("nobody") == ""
    assert not data.searching


def test_the_images_of_suspects_and_of_unequal_twins_are_wanted(tmp_path: Path) -> None:
    stored = stored_run(tmp_path / "run")
    rows = tables(stored.race.members)
    rows["duplicates"][0]["same_label"] = True
    write_tables(tmp_path / "run", rows)
    wanted = wanted_images(gather(stored).evidence)
    assert wanted[:24] == tuple(f"img{at}" for at in range(24))
    assert "twin0" not in wanted
    assert "twin8" in wanted
    assert "twin9" not in wanted


def test_thumbnails_are_found_by_the_run_s_own_paths(tmp_path: Path) -> None:
    stored = stored_run(tmp_path / "run")
    write_tables(tmp_path / "run", tables(stored.race.members))
    there = tmp_path / "a.png"
    Image.new("RGB", (20, 20)).save(there)
    manifest = Manifest(
        ids=("img0", "img1"),
        paths=(str(there), str(tmp_path / "gone.png")),
        labels=np.array([0, 1], dtype=np.int32),
        groups=None,
        classes=("cat", "dog"),
        label_values=("0", "1"),
    )
    write_folds(stored.directory.folds, manifest, np.array([0, 1], dtype=np.int16))
    pictures = gather(stored).thumbnails
    assert set(pictures) == {"img0", "img1"}
    assert (pictures["img0"] or "").startswith("data:image/jpeg")
    assert pictures["img1"] is None


def test_a_damaged_table_of_folds_only_costs_the_pictures(tmp_path: Path) -> None:
    stored = stored_run(tmp_path / "run")
    write_tables(tmp_path / "run", tables(stored.race.members))
    stored.directory.folds.write_text("no table")
    assert gather(stored).thumbnails == {}


def test_a_damaged_blend_is_told(tmp_path: Path) -> None:
    stored = stored_run(tmp_path / "run")
    stored.directory.blend.write_text("{")
    data = gather(stored)
    assert data.blend is None
    assert "expected JSON" in data.blend_problem


@pytest.mark.parametrize(
    ("metric", "higher"), [("log_loss", False), ("accuracy", True), ("no such metric", False)]
)
def test_every_metric_has_a_direction(metric: str, higher: bool) -> None:
    assert higher_is_better(metric) is higher
