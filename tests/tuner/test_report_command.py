from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from ensemble.blend import Blend, BlendSettings, read_blend
from ensemble.files import Location
from ensemble.rules import read_rules
from ensemble.run import blend_run, read_fold_table, read_nested
from ensemble.store import OofStore
from tests.conftest import MakeTinyImages, _write_images
from tests.tuner.made_runs import made_run, made_world
from tests.tuner.test_finish import tiny_search
from tuner.errors import UserError
from tuner.finish import blend_stored
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two members."""
    root = tmp_path_factory.mktemp("report")
    images = _write_images(root / "images", 2, 6, 32, 0)
    tiny_search(
        images,
        str(root),
        *("search.budget.configurations=2", "search.promotion.members=2"),
    )
    return root / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Location:
    """A copy of the finished run, to change."""
    shutil.copytree(finished, tmp_path / "run")
    return Location.of(tmp_path / "run")


def blend_one(run: Location, **changes: object) -> Blend:
    """Blend the first member alone, as before the second one was complete."""
    settings = BlendSettings(**({"bootstrap": 0, "refits": 0} | changes))  # type: ignore[arg-type]
    first = OofStore(run).complete_members(2)[0]
    return blend_run(run, settings, n_folds=2, config_ids=[first]).blend


def analysed_members(run: Location) -> set[str]:
    return set(pd.read_parquet((run / "analysis" / "members.parquet").local_path)["name"])


def test_members_that_finished_since_are_blended_in_the_way_of_the_last_blend(
    run: Location,
) -> None:
    old = blend_one(run, metric="accuracy", methods=("equal",), calibrate_blend="none")
    report_run(read_run(run.uri), say_nothing)
    blend = read_blend(run / "blend.json")
    assert len(old.members) == 1
    assert {one.config_id for one in blend.members} == set(OofStore(run).complete_members(2))
    assert (blend.metric, blend.method, blend.calibration.kind) == ("accuracy", "equal", "none")
    assert analysed_members(run) >= {one.config_id for one in blend.members}


def test_a_blend_of_every_member_stays_as_it_is(run: Location) -> None:
    before = (run / "blend.json").read_bytes()
    report_run(read_run(run.uri), say_nothing)
    assert (run / "blend.json").read_bytes() == before


def test_nested_predictions_of_another_blend_are_not_analysed_as_its_own(run: Location) -> None:
    whole = (run / "blend.json").read_bytes()
    blend_one(run, methods=("best_single",), calibrate=False)
    (run / "blend.json").write_bytes(whole)  # a kill between the writes leaves such a pair
    assert read_nested(run, read_blend(run / "blend.json")) is None
    report_run(read_run(run.uri), say_nothing)
    assert read_nested(run, read_blend(run / "blend.json")) is not None


def test_a_blend_of_the_true_class_alone_is_neither_analysed_nor_made_again(
    run: Location,
) -> None:
    settings = BlendSettings(
        bootstrap=0, methods=("convex",), calibrate=False, calibrate_blend="none"
    )
    blend = blend_run(run, settings, n_folds=2).blend
    page = report_run(read_run(run.uri), say_nothing)
    assert page.exists()
    assert read_blend(run / "blend.json") == blend
    assert not (run / "analysis").exists()


def test_rules_go_with_the_blend_as_long_as_they_can_be_read(run: Location) -> None:
    classes = read_run(run.uri).record.classes
    table = read_fold_table(run / "folds.parquet")
    words = run / "words.csv"
    names = [classes[label] for label in table.labels]
    words.write_text(
        "id,class\n" + "".join(f"{i},{n}\n" for i, n in zip(table.ids, names, strict=True))
    )
    stored = read_run(run.uri)
    first = blend_stored(stored, rules=read_rules(words, classes))
    (run / "blend_oof.parquet").delete()
    report_run(stored, say_nothing)
    again = read_blend(run / "blend.json")
    assert again.rules == first.rules
    assert again.score == first.score
    words.delete()
    report_run(stored, say_nothing)
    assert read_blend(run / "blend.json") == again
    (run / "blend_oof.parquet").delete()
    with pytest.raises(UserError, match=r"not of the same blend.*words\.csv.*foldblend blend"):
        report_run(stored, say_nothing)


def test_a_run_without_a_member_has_a_page_too(tmp_path: Path) -> None:
    run = made_run(tmp_path, made_world())
    page = report_run(read_run(str(run.root)), say_nothing)
    assert page.exists()
    assert not (run.root / "blend.json").exists()
