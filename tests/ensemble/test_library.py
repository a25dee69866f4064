from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import BlendError
from ensemble.library import Library, read_library
from ensemble.predictions import Predictions
from tests.ensemble.made import made_members

CLASSES = ("a", "b", "c")


def library_of(members: dict[str, Predictions], **options: object) -> Library:
    return read_library(list(members), members.__getitem__, CLASSES, **options)  # type: ignore[arg-type]


def test_members_are_by_name_whatever_order_they_came_in() -> None:
    members = made_members(members=3)
    library = library_of(dict(reversed(members.items())))
    assert library.names == ("c0", "c1", "c2")
    assert library.probs is not None
    for index, name in enumerate(library.names):
        np.testing.assert_array_equal(library.probs[index], members[name].proba)
        np.testing.assert_array_equal(library.p_true[index], members[name].p_true)


def test_rows_are_those_of_the_first_member_given() -> None:
    members = made_members(members=2)
    shuffled = members["c1"].take(np.random.default_rng(0).permutation(120))
    library = library_of({"c1": shuffled, "c0": members["c0"]})
    np.testing.assert_array_equal(library.ids, shuffled.ids)
    assert library.probs is not None
    np.testing.assert_array_equal(library.probs[0], members["c0"].aligned_to(shuffled.ids).proba)


def test_every_member_is_read_once_and_not_kept() -> None:
    members, asked = made_members(members=3), []

    def read(name: str) -> Predictions:
        asked.append(name)
        return members[name]

    read_library(list(members), read, CLASSES)
    assert sorted(asked) == ["c0", "c1", "c2"]


def test_beyond_the_bound_probabilities_lie_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    members = made_members()
    small, large = library_of(members, memory_bytes=100), library_of(members)
    assert isinstance(small.probs, np.memmap)
    np.testing.assert_array_equal(small.probs, large.probs)


def test_groups_may_come_by_id_or_by_row() -> None:
    members = made_members(members=2)
    by_row = np.array([f"g{row // 2}" for row in range(120)], dtype=object)
    by_id = dict(zip(members["c0"].ids, by_row, strict=True))
    np.testing.assert_array_equal(library_of(members, groups=by_id).groups, by_row)
    np.testing.assert_array_equal(library_of(members, groups=by_row).groups, by_row)
    with pytest.raises(BlendError, match=r"none for 1 .first 'image 0.jpg'"):
        library_of(members, groups={k: v for k, v in by_id.items() if k != "image 0.jpg"})
    with pytest.raises(BlendError, match="expected 120 groups"):
        library_of(members, groups=by_row[1:])


@pytest.mark.parametrize("weights", [[-1.0], [np.nan], [np.inf]])
def test_row_weights_are_checked(weights: list[float]) -> None:
    with pytest.raises(BlendError, match="finite row weights"):
        library_of(made_members(), row_weights=np.array(weights * 120))
    with pytest.raises(BlendError, match="expected 120 row weights"):
        library_of(made_members(), row_weights=np.ones(3))
    with pytest.raises(BlendError, match="not all of them 0"):
        library_of(made_members(), row_weights=np.zeros(120))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": np.zeros(120, int)}, "member c1, id .*: expected fold . as in c0"),
        ({"labels": np.zeros(120, int)}, "member c1, id .*: expected label . as in c0"),
        ({"proba": np.full((120, 2), 0.5), "labels": np.zeros(120, int)}, "c1: expected 3 classes"),
        (
            {"ids": np.array([f"x{i}" for i in range(120)], object)},
            "member c1 beside c0: .*missing",
        ),
    ],
)
def test_a_member_that_does_not_fit_is_named(change: dict, message: str) -> None:
    members = made_members(members=2)
    members["c1"] = replace(members["c1"], **change)
    with pytest.raises(BlendError, match=message):
        library_of(members)


def test_nobody_one_fold_and_unknown_labels_are_refused() -> None:
    with pytest.raises(BlendError, match="at least one member"):
        library_of({})
    member = made_members(members=1)["c0"]
    with pytest.raises(BlendError, match="at least two folds"):
        library_of({"c0": replace(member, folds=np.zeros(120, int))})
    unknown = np.where(np.arange(120) == 7, -1, member.labels)
    with pytest.raises(BlendError, match=r"got 1 without .first id 'image 7.jpg'"):
        library_of({"c0": replace(member, labels=unknown)})


def test_row_weights_must_reach_two_folds() -> None:
    members = made_members()
    folds = members["c0"].folds
    with pytest.raises(BlendError, match=r"at least two of the folds \[0, 1, 2\], .*fold 1 alone"):
        library_of(members, row_weights=(folds == 1).astype(float))
    library = library_of(members, row_weights=(folds != 1).astype(float))
    assert library.weighted_folds == {0, 2}
    assert library_of(members).weighted_folds == {0, 1, 2}
