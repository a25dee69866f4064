from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.blend import BlendSettings, fit_blend, read_blend
from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.run import blend_run, read_fold_table
from ensemble.store import OofStore, write_predictions
from tests.ensemble.made import made_members, metadata

SETTINGS = BlendSettings(bootstrap=20, greedy_steps=5)
CLASSES = ("cat", "dog", "élan")


def write_folds(run: Location, member: Predictions, group: list[str | None] | None = None) -> None:
    table = pd.DataFrame(
        {
            "id": member.ids,
            "path": [f"images/{name}" for name in member.ids],
            "label": member.labels,
            "group": pd.Series(group or [None] * member.n_rows, dtype="string"),
            "fold": member.folds,
        }
    )
    (run / "folds.parquet").write_bytes(table.to_parquet(index=False))


def store_fold(run: Location, name: str, member: Predictions, fold: int, **about: str) -> None:
    rows = member.take(member.folds == fold)
    where = OofStore(run).fold_location("oof", name, fold)
    write_predictions(where, rows, metadata(name, **about))  # type: ignore[arg-type]


def filled(run: Location) -> dict[str, Predictions]:
    members = made_members()
    write_folds(run, members["c0"])
    for name, member in members.items():
        for fold in range(3):
            store_fold(run, name, member, fold)
    return members


@pytest.fixture
def run(tmp_path: Path) -> Location:
    return Location.of(tmp_path / "run")


def test_the_blend_of_a_run_is_that_of_its_members_and_is_written(run: Location) -> None:
    members = filled(run)
    said: list[str] = []
    blend = blend_run(run, SETTINGS, n_folds=3, progress=said.append)
    direct = fit_blend(members, CLASSES, SETTINGS)
    assert blend.data_fingerprint == "f00d"
    assert blend.to_dict() == direct.to_dict() | {"data_fingerprint": "f00d"}
    assert read_blend(run / "blend.json") == blend
    assert "reading member 1 of 4: c0" in said


def test_only_complete_members_count_while_a_search_is_running(run: Location) -> None:
    members = made_members()
    write_folds(run, members["c0"])
    for fold in range(3):
        store_fold(run, "c2", members["c2"], fold)
    store_fold(run, "c1", members["c1"], 0)
    blend = blend_run(run, SETTINGS, n_folds=3)
    assert [(member.config_id, member.weight) for member in blend.members] == [("c2", 1.0)]
    for fold in (1, 2):
        store_fold(run, "c1", members["c1"], fold)
    blend = blend_run(run, SETTINGS, n_folds=3)
    assert {member.config_id for member in blend.members} == {"c1", "c2"}


def test_no_complete_member_says_how_far_the_furthest_is(run: Location) -> None:
    with pytest.raises(BlendError, match=r"no complete member yet: .* holds no predictions"):
        blend_run(run, SETTINGS, n_folds=3)
    members = made_members()
    write_folds(run, members["c0"])
    store_fold(run, "c0", members["c0"], 0)
    for fold in (0, 2):
        store_fold(run, "c1", members["c1"], fold)
    with pytest.raises(BlendError, match=r"no complete member yet: of 2 .*c1 .* 2 of 3 folds"):
        blend_run(run, SETTINGS, n_folds=3)
    assert not (run / "blend.json").exists()


def test_members_can_be_named(run: Location) -> None:
    filled(run)
    blend = blend_run(run, SETTINGS, n_folds=3, config_ids=["c3", "c1"])
    assert {member.config_id for member in blend.members} == {"c1", "c3"}
    with pytest.raises(BlendError, match="no configuration 'c33'; did you mean c3"):
        blend_run(run, SETTINGS, n_folds=3, config_ids=["c33"])
    with pytest.raises(BlendError, match=r"c1: folds \[3\] of 4 are not stored yet"):
        blend_run(run, SETTINGS, n_folds=4, config_ids=["c1"])
    with pytest.raises(BlendError, match="at least one configuration"):
        blend_run(run, SETTINGS, n_folds=3, config_ids=[])


def test_groups_of_the_run_are_resampled_together(run: Location) -> None:
    members = filled(run)
    alone = blend_run(run, SETTINGS, n_folds=3).score
    groups = [f"patient {i % 6}" if i % 5 else None for i in range(120)]
    write_folds(run, members["c0"], groups)
    grouped = blend_run(run, SETTINGS, n_folds=3).score
    expected = fit_blend(members, CLASSES, SETTINGS, groups=np.array(groups, dtype=object))
    assert grouped == expected.score
    assert grouped.value == alone.value
    assert (grouped.low, grouped.high) != (alone.low, alone.high)


def test_rows_that_contradict_the_fold_table_are_refused(run: Location) -> None:
    members = filled(run)
    one = members["c0"]
    write_folds(run, one.take(slice(0, 100)))
    with pytest.raises(BlendError, match="config_id=c0: expected 100 ids, got 120: 20 unexpected"):
        blend_run(run, SETTINGS, n_folds=3)
    write_folds(run, Predictions(one.ids, (one.labels + 1) % 3, one.folds, one.proba))
    with pytest.raises(BlendError, match=r"c0, id 'image 0.jpg': expected label \d as in folds"):
        blend_run(run, SETTINGS, n_folds=3)
    write_folds(run, Predictions(one.ids, one.labels, (one.folds + 1) % 3, one.proba))
    with pytest.raises(BlendError, match=r"expected fold \d as in folds.parquet, got \d"):
        blend_run(run, SETTINGS, n_folds=3)


def test_members_of_other_data_or_classes_are_refused(run: Location) -> None:
    members = filled(run)
    for fold in range(3):
        store_fold(run, "c3", members["c3"], fold, fingerprint="beef")
    with pytest.raises(
        BlendError, match=r"c0 and c3 were trained on different data .f00d and beef"
    ):
        blend_run(run, SETTINGS, n_folds=3)
    for fold in range(3):
        store_fold(run, "c3", members["c3"], fold, classes=("x", "y", "z"))  # type: ignore[arg-type]
    with pytest.raises(BlendError, match="c0 and c3 have different classes"):
        blend_run(run, SETTINGS, n_folds=3)


def test_a_damaged_fold_table_is_named(run: Location) -> None:
    (run / "folds.parquet").write_bytes(b"no parquet")
    with pytest.raises(BlendError, match=r"folds.parquet: not a table of folds"):
        read_fold_table(run / "folds.parquet")
    pd.DataFrame({"id": ["a"]}).to_parquet((run / "folds.parquet").local_path)
    with pytest.raises(BlendError, match=r"folds.parquet: .*label"):
        read_fold_table(run / "folds.parquet")


def test_the_fold_table_keeps_order_and_missing_groups(run: Location) -> None:
    member = made_members(rows=6)["c0"]
    write_folds(run, member, ["a", None, "b", "a", None, "b"])
    table = read_fold_table(run / "folds.parquet")
    assert table.ids.tolist() == member.ids.tolist()
    assert table.groups.tolist() == ["a", None, "b", "a", None, "b"]
    assert table.folds.tolist() == member.folds.tolist()
    assert table.labels.tolist() == member.labels.tolist()


def test_a_run_on_s3_is_blended_in_place(s3_endpoint: str) -> None:
    run = Location.of(f"s3://runs/{uuid.uuid4().hex}?endpoint_override={s3_endpoint}")
    members = filled(run)
    blend = blend_run(run, SETTINGS, n_folds=3)
    assert read_blend(run / "blend.json") == blend
    assert blend.score == fit_blend(members, CLASSES, SETTINGS).score
