from __future__ import annotations

from pathlib import Path

from tests.conftest import MakeTinyImages
from tests.tuner.made_runs import made_run, made_world
from tests.tuner.test_finish import tiny_search
from tuner.replayed import read_run
from tuner.report_command import report_run


def say_nothing(text: str) -> None:
    pass


def test_a_search_ends_with_its_page_and_the_command_makes_it_again(
    tiny_images: MakeTinyImages, tmp_path: Path
) -> None:
    images = tiny_images(classes=2, per_class=6)
    tiny_search(images, str(tmp_path), "search.budget.configurations=1")
    run = tmp_path / "run"
    assert (run / "report.html").exists()
    assert (run / "analysis" / "rows.parquet").exists()
    for left in ("report.html", "blend_oof.parquet", "analysis/rows.parquet"):
        (run / left).unlink()
    page = report_run(read_run(str(run)), say_nothing)
    assert page.local_path == run / "report.html"
    assert "<!doctype html>" in page.read_text().lower()
    assert (run / "blend_oof.parquet").exists()
    assert (run / "analysis" / "rows.parquet").exists()


def test_a_run_without_a_member_has_a_page_too(tmp_path: Path) -> None:
    run = made_run(tmp_path, made_world())
    page = report_run(read_run(str(run.root)), say_nothing)
    assert page.exists()
    assert not (run.root / "blend.json").exists()
