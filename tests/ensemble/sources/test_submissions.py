from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.gather import gather
from ensemble.sources.options import GatherOptions
from ensemble.sources.submissions import read_test_member
from tests.ensemble.sources.made import CLASSES, label_frame, members, wide


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """Two members without tests."""
    for name, member in members().items():
        wide(member).to_csv(tmp_path / f"{name}_oof.csv", index=False)
    label_frame(members()["c0"]).to_csv(tmp_path / "y.csv", index=False)
    return [str(tmp_path / f"{name}_oof.csv") for name in members()]


def options(tmp_path: Path, *test: Path) -> GatherOptions:
    return GatherOptions(labels=str(tmp_path / "y.csv"), test=tuple(map(str, test)))


def test_one_file_needs_no_labels_and_any_order_of_columns(tmp_path: Path) -> None:
    one = members(5)["c0"]
    table = wide(one, prefix="p_")[["id", "p_élan", "p_cat", "p_dog"]]
    table.to_parquet(tmp_path / "t.parquet")
    test = read_test_member(Location.of(tmp_path / "t.parquet"), CLASSES)
    np.testing.assert_array_equal(test.proba, one.proba)
    assert test.ids.tolist() == one.ids.tolist()
    with pytest.raises(BlendError, match=r"did you mean 't\.parquet'"):
        read_test_member(Location.of(tmp_path / "u.parquet"), CLASSES)


def test_given_files_are_matched_by_name(tmp_path: Path, sources: list[str]) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for name, member in members(5).items():
        wide(member).to_csv(given / f"{name}.csv", index=False)
    for test in ([given], [given / "c1.csv", given / "c0.csv"]):
        got = gather(sources, options(tmp_path, *test))
        for name, member in members(5).items():
            np.testing.assert_allclose(got.tests[name][0].proba, member.proba, atol=1e-6)
    got = gather(sources, options(tmp_path, given / "c1.csv"))
    assert list(got.tests) == ["c1"]
    assert got.notes == ("no test predictions of 1 members ('c0')",)


def test_a_single_test_file_belongs_to_a_single_member(tmp_path: Path, sources: list[str]) -> None:
    wide(members(5)["c0"]).to_csv(tmp_path / "best.csv", index=False)
    got = gather(sources[:1], options(tmp_path, tmp_path / "best.csv"))
    assert list(got.tests) == ["c0"]


def test_a_file_of_no_member_is_refused_with_the_nearest(
    tmp_path: Path, sources: list[str]
) -> None:
    wide(members(5)["c0"]).to_csv(tmp_path / "c00_test.csv", index=False)
    with pytest.raises(BlendError, match=r"no member is called 'c00': .*; did you mean 'c0'"):
        gather(sources, options(tmp_path, tmp_path / "c00_test.csv"))


def test_two_files_of_one_member_are_refused(tmp_path: Path, sources: list[str]) -> None:
    for name in ("c0.csv", "c0_test.csv"):
        wide(members(5)["c0"]).to_csv(tmp_path / name, index=False)
    with pytest.raises(BlendError, match="test predictions of 'c0' came from"):
        gather(sources, options(tmp_path, tmp_path / "c0.csv", tmp_path / "c0_test.csv"))
