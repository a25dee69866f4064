from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.folder import OOF, TEST, member_name, read_folder, submission_files


def folder(tmp_path: Path, *names: str) -> Location:
    for name in names:
        path = tmp_path / "f" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return Location.of(tmp_path / "f")


@pytest.mark.parametrize("name", ["m_oof.csv", "oof_m.npy", "oof/m.parquet", "oof/m_oof.csv"])
def test_oof_files_are_found_by_name(tmp_path: Path, name: str) -> None:
    found = read_folder(folder(tmp_path, name))
    assert list(found.oof) == ["m"]
    assert str(found.oof["m"]).endswith(name)


def test_in_a_folder_called_oof_every_file_is_one(tmp_path: Path) -> None:
    folder(tmp_path, "oof/resnet.csv", "oof/vit.npy", "oof/vit.csv", "oof/labels.csv")
    found = read_folder(Location.of(tmp_path / "f" / "oof"))
    assert list(found.oof) == ["resnet", "vit"]
    assert found.oof["vit"].name == "vit.npy"
    assert found.labels is not None
    assert found.notes == ()


@pytest.mark.parametrize(
    "name",
    [
        *("m_test.csv", "test_m.npy", "sub_m.csv", "submission_m.csv", "m_sub.csv"),
        *("m_submission.csv", "m_sub2.csv", "test/m.csv", "test/m_test.csv"),
    ],
)
def test_test_files_are_paired_by_name(tmp_path: Path, name: str) -> None:
    found = read_folder(folder(tmp_path, "m_oof.csv", name))
    assert str(found.test["m"]).endswith(name)
    assert found.notes == ()


def test_what_has_no_partner_is_noted(tmp_path: Path) -> None:
    where = folder(tmp_path, "a_oof.csv", "b_oof.csv", "b_test.csv", "c_test.csv", "readme.csv")
    found = read_folder(where)
    assert list(found.oof) == ["a", "b"]
    assert list(found.test) == ["b"]
    assert found.notes == (
        f"{where}/c_test.csv: no OOF of 'c': left out",
        f"{where}/a_oof.csv: no test predictions of 'a'",
        f"{where}/readme.csv: neither OOF nor test by its name: left out",
    )


def test_the_table_beside_an_array_is_no_member_of_its_own(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, "m_oof.npy", "m_oof.csv", "ids.csv", "labels.csv"))
    assert found.oof["m"].name == "m_oof.npy"
    assert found.labels is not None
    assert found.labels.name == "labels.csv"


def test_two_files_of_one_member_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BlendError, match="'m' is also the name of"):
        read_folder(folder(tmp_path, "m_oof.csv", "oof_m.csv"))
    with pytest.raises(BlendError, match="'n' is also the name of"):
        read_folder(folder(tmp_path / "2", "n_oof.csv", "oof/n.csv"))


def test_a_folder_without_oof_lists_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(BlendError, match=r"no OOF predictions: .* got 'a\.csv', 'm_test\.csv'"):
        read_folder(folder(tmp_path, "a.csv", "m_test.csv"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BlendError, match="got an empty folder"):
        read_folder(Location.of(tmp_path / "empty"))


def test_a_name_says_what_a_file_is_or_nothing(tmp_path: Path) -> None:
    where = Location.of(tmp_path)
    assert member_name(where / "a_oof.csv", OOF) == "a"
    assert member_name(where / "a.csv", OOF) is None
    assert member_name(where / "convnext_test_time_test.csv", TEST) == "convnext_test_time"


def test_given_test_files_may_have_any_name(tmp_path: Path) -> None:
    where = folder(tmp_path, "a.csv", "b.csv")
    assert sorted(submission_files(where)) == ["a", "b"]
    assert list(submission_files(where / "a.csv")) == ["a"]
    assert list(submission_files(folder(tmp_path, "c_test.csv"))) == ["c"]
    (tmp_path / "none").mkdir()
    with pytest.raises(BlendError, match="no test predictions"):
        submission_files(Location.of(tmp_path / "none"))
