from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.label_table import (
    LabelTable,
    check_unique,
    read_label_table,
    run_label_table,
)
from ensemble.sources.options import GatherOptions
from tests.ensemble.sources.made import CLASSES, members, write_run

NONE = GatherOptions()


def read(tmp_path: Path, text: str, options: GatherOptions = NONE) -> LabelTable:
    (tmp_path / "y.csv").write_text(text, encoding="utf-8")
    return read_label_table(Location.of(tmp_path / "y.csv"), options)


def test_every_column_is_found(tmp_path: Path) -> None:
    table = read(tmp_path, "image,class,fold,group,weight\na,cat,0,g,1\nb,dog,1,,0.5\n")
    assert table.ids.tolist() == ["a", "b"]
    assert table.labels.tolist() == ["cat", "dog"]
    assert table.folds is not None
    assert table.folds.tolist() == [0, 1]
    assert table.groups is not None
    assert table.groups.tolist() == ["g", None]
    assert table.weights is not None
    assert table.weights.tolist() == [1.0, 0.5]


def test_columns_that_are_named_are_taken(tmp_path: Path) -> None:
    options = GatherOptions(label_column="diagnosis", fold_column="part")
    table = read(tmp_path, "id,label,diagnosis,part\na,x,cat,3\n", options)
    assert table.labels.tolist() == ["cat"]
    assert table.folds is not None
    assert table.folds.tolist() == [3]


def test_rows_without_a_label_are_dropped_when_asked(tmp_path: Path) -> None:
    table = read(tmp_path, "id,label,fold\na,cat,0\nb,,1\n").known()
    assert table.ids.tolist() == ["a"]
    assert table.folds is not None
    assert table.folds.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,cat\na,1\n", r"y\.csv: no label column among 'id', 'cat'"),
        ("key,label\na,1\n", r"y\.csv: no id column"),
        ("id,label\na,1\na,2\n", r"y\.csv: expected every id once, got 1 of them twice or more"),
        ("id,label\na,1\n,2\n", r"y\.csv: row 1: expected an id, got nothing"),
        ("id,label,fold\na,1,first\n", r"column 'fold', id 'a': expected a fold number"),
    ],
)
def test_what_is_missing_or_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BlendError, match=message):
        read(tmp_path, text)


def test_numbers_of_our_own_files_become_class_names(tmp_path: Path) -> None:
    one = members()["c0"]
    table = run_label_table(Location.of(write_run(tmp_path / "run", {"c0": one})))
    assert table.classes == CLASSES
    assert table.labels.tolist() == [CLASSES[label] for label in one.labels]
    assert table.groups is None
    assert table.weights is None


def test_ids_once_each_are_right() -> None:
    check_unique(np.array(["a", "b"], dtype=object))


def test_minus_one_is_unknown_unless_it_is_a_class(tmp_path: Path) -> None:
    table = read(tmp_path, "id,label,fold\na,1,0\nb,-1,1\n")
    assert table.settled(minus_one_is_class=True).known().labels.tolist() == ["1", "-1"]
    assert table.settled(minus_one_is_class=False).known().labels.tolist() == ["1"]
