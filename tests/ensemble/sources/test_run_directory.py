from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.label_table import LabelTable, run_label_table
from ensemble.sources.run_directory import complete_members, is_run, read_member, read_tests
from tests.ensemble.sources.made import CLASSES, members, write_run


@pytest.fixture
def run(tmp_path: Path) -> Location:
    return Location.of(write_run(tmp_path / "run", members()))


def test_a_run_has_folds_and_oof(run: Location, tmp_path: Path) -> None:
    assert is_run(run)
    assert not is_run(Location.of(tmp_path))


def test_members_lacking_folds_are_left_out_with_a_note(run: Location) -> None:
    table = run_label_table(run)
    assert complete_members(run, table) == (["c0", "c1"], [])
    (run / "oof" / "config_id=c0" / "fold=1.parquet").delete()
    assert complete_members(run, table) == (
        ["c1"],
        [f"{run}: 1 of 2 configurations lack folds: left out"],
    )


def test_a_member_is_read_with_labels_by_name(run: Location) -> None:
    raw = read_member(run, "c1", run_label_table(run))
    expected = members()["c1"].aligned_to(raw.ids)
    np.testing.assert_array_equal(raw.values, expected.proba)
    assert raw.classes == CLASSES
    assert raw.exact
    assert raw.labels is not None
    assert raw.labels.labels.tolist() == [CLASSES[label] for label in expected.labels]


def test_classes_other_than_those_of_the_folds_are_refused(run: Location) -> None:
    table = run_label_table(run)
    other = LabelTable(
        table.where, table.ids, table.labels, table.folds, classes=("dog", "cat", "élan")
    )
    with pytest.raises(BlendError, match="c1 has other classes than"):
        read_member(run, "c1", other)


def test_a_run_may_have_no_tests(run: Location) -> None:
    assert read_tests(run, "c0") == []
