from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.options import GatherOptions
from ensemble.sources.source import open_source, read_file
from tests.ensemble.sources.made import label_frame, members, wide, write_run

NONE = GatherOptions()


def test_a_file_is_one_member_named_without_oof(tmp_path: Path) -> None:
    np.save(tmp_path / "m_oof.npy", members()["c0"].proba)
    source = open_source(Location.of(tmp_path / "m_oof.npy"), NONE)
    assert list(source.oof) == ["m"]
    assert source.is_array("m")
    assert source.read_tests("m", NONE, ()) == []


def test_a_run_brings_its_labels(tmp_path: Path) -> None:
    run = Location.of(write_run(tmp_path / "run", members()))
    source = open_source(run, NONE)
    assert source.is_run
    assert list(source.oof) == ["c0", "c1"]
    assert source.labels is not None
    assert source.read("c0", NONE, None, ()).exact
    assert not source.read("c0", GatherOptions(labels="y.csv"), None, ()).exact


def test_labels_in_a_folder_are_used_unless_others_are_given(tmp_path: Path) -> None:
    one = members()["c0"]
    wide(one).to_csv(tmp_path / "m_oof.csv", index=False)
    label_frame(one).to_csv(tmp_path / "train.csv", index=False)
    where = Location.of(tmp_path)
    source = open_source(where, NONE)
    assert source.labels is not None
    assert source.notes == (f"labels are those of {tmp_path}/train.csv",)
    assert open_source(where, GatherOptions(labels="other.csv")).labels is None
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    source = open_source(where, NONE)
    assert source.labels is None
    assert source.notes[0].startswith(f"not taken for labels: {tmp_path}/train.csv: no label")


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"x")
    with pytest.raises(BlendError, match=r"a\.pkl: expected a run directory, a folder, or a file"):
        open_source(Location.of(tmp_path / "a.pkl"), NONE)


def test_tables_and_arrays_are_read_alike(tmp_path: Path) -> None:
    one = members()["c0"]
    wide(one).to_csv(tmp_path / "a.csv", index=False)
    np.save(tmp_path / "b.npy", one.proba)
    (tmp_path / "b.csv").write_text("id\n" + "\n".join(one.ids) + "\n")
    for name in ("a.csv", "b.npy"):
        raw = read_file(Location.of(tmp_path / name), NONE, None, ())
        assert raw.ids.tolist() == one.ids.tolist()
        np.testing.assert_allclose(raw.values, one.proba, rtol=1e-5)
