from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from trainables.errors import DataError
from trainables.submission import SubmissionFormat, submission_format, write_submission

CLASSES = ("cat", "dog", "owl")
VALUES = ("0", "1", "2")
PROBA = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]])
LABEL = SubmissionFormat(("ID", "target"), "label", "ID")


def write(path: Path, form: SubmissionFormat, proba: np.ndarray = PROBA) -> list[str]:
    write_submission(path, form, ["b.jpg", "a.jpg"], proba, classes=CLASSES, label_values=VALUES)
    return path.read_text().splitlines()


def test_labels_are_written_as_the_label_column_holds_them_in_the_given_order(
    tmp_path: Path,
) -> None:
    assert write(tmp_path / "s.csv", LABEL) == ["ID,target", "b.jpg,1", "a.jpg,0"]


def test_the_id_column_keeps_its_place() -> None:
    form = submission_format(["target", "ID"], "ID", CLASSES, VALUES, "s.csv")
    assert form == SubmissionFormat(("target", "ID"), "label", "ID")


def test_probabilities_are_written_in_the_order_of_the_samples_columns(tmp_path: Path) -> None:
    form = submission_format(["id", "owl", "cat", "dog"], "id", CLASSES, VALUES, "s.csv")
    lines = write(tmp_path / "s.csv", form)
    assert lines == ["id,owl,cat,dog", "b.jpg,0.2,0.1,0.7", "a.jpg,0.25,0.5,0.25"]


def test_probability_columns_may_bear_label_values(tmp_path: Path) -> None:
    form = submission_format(["id", "2", "1", "0"], "id", CLASSES, VALUES, "s.csv")
    assert write(tmp_path / "s.csv", form)[1] == "b.jpg,0.2,0.7,0.1"


def test_float32_probabilities_survive_the_text(tmp_path: Path) -> None:
    proba = np.random.default_rng(0).dirichlet(np.ones(3), 2).astype(np.float32)
    form = submission_format(["id", *CLASSES], "id", CLASSES, VALUES, "s.csv")
    rows = [line.split(",")[1:] for line in write(tmp_path / "s.csv", form, proba)[1:]]
    np.testing.assert_array_equal(np.array(rows, np.float32), proba)


def test_columns_that_are_no_classes_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match="column dgo is not one; did you mean dog"):
        submission_format(["id", "cat", "dgo", "owl"], "id", CLASSES, VALUES, "s.csv")
    with pytest.raises(DataError, match=r"expected 2 columns .* or 4 .* got 3: id, cat, dog"):
        submission_format(["id", "cat", "dog"], "id", CLASSES, VALUES, "s.csv")


def test_probabilities_that_do_not_fit_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got \\(1, 3\\)"):
        write(tmp_path / "s.csv", LABEL, PROBA[:1])
    with pytest.raises(DataError, match=r"of a.jpg are not finite"):
        write(tmp_path / "s.csv", LABEL, np.array([[1, 0, 0], [np.nan, 0, 1]]))
    assert os.listdir(tmp_path) == []


def test_a_failed_rename_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "s.csv", LABEL)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "s.csv", LABEL, PROBA[::-1])
    assert os.listdir(tmp_path) == ["s.csv"]
    assert (tmp_path / "s.csv").read_text().splitlines()[1] == "b.jpg,1"
