"""Without Ray; with it, on a real head, in tests/tuner/test_cluster_commands.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ensemble.files import Location
from tuner.cluster import check
from tuner.cluster.check import Findings, NodeFindings, look, look_with_storage
from tuner.cluster.needs import Need, Needs


def test_findings_are_one_line_of_a_log_with_other_lines() -> None:
    node = NodeFindings("10.0.0.1", True, {"storage": "no\nway"}, {"ray": "2"}, 5, None)
    findings = Findings("/r/a", "a run of this name exists", (node,))
    line = findings.to_line()
    assert "\n" not in line
    assert Findings.from_log(f"a warning\n{line}\nanother\n") == findings
    assert Findings.from_log("Traceback …\n") is None


def test_what_can_be_read_is_not_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    needs = [Need("one", str(tmp_path / "a.jpg"), True), Need("all", f"{tmp_path}/*.jpg", True)]
    found = look(needs, str(tmp_path / "not" / "made"))
    assert found.wrong == {}
    assert found.free_bytes
    assert {"foldblend", "ray", "python"} == set(found.versions)


def test_what_is_missing_is_named_by_its_key(tmp_path: Path) -> None:
    needs = [
        Need("data.path", str(tmp_path / "no.csv"), False),
        Need("data.images", f"memory://{tmp_path.name}/no", True),
        Need("data.test_images", "nosuchscheme://x/y", True),
    ]
    wrong = look(needs, None).wrong
    assert wrong["data.path"] == wrong["data.images"] == "nothing is there"
    assert wrong["data.test_images"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_this_user_may_not_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch(mode=0)
    assert look([Need("a", str(tmp_path / "a.csv"), True)], None).wrong == {
        "a": "may not be read by this user"
    }


def test_a_node_that_shares_the_storage_answers_there(tmp_path: Path) -> None:
    (tmp_path / "head").write_text("word")
    needs = Needs("/r/a", False, (Need("alone", "/no/such", False),))
    assert look_with_storage(needs, str(tmp_path), "word", "node").wrong == {}
    assert (tmp_path / "node").read_text() == "word"


def test_a_disk_of_one_machine_is_no_shared_storage(tmp_path: Path) -> None:
    found = look_with_storage(Needs("/r/a", False), str(tmp_path / "other"), "word", "node")
    assert "a disk of one machine" in found.wrong["storage"]
    assert not (tmp_path / "other").exists()


def test_another_file_of_the_same_name_is_no_shared_storage(tmp_path: Path) -> None:
    (tmp_path / "head").write_text("of somebody else")
    found = look_with_storage(Needs("/r/a", False), str(tmp_path), "word", "node")
    assert "another file is there" in found.wrong["storage"]


def test_the_head_writes_reads_and_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_own_ip", lambda: "10.0.0.1")
    monkeypatch.setattr(check, "_ask_nodes", lambda *given: [])
    findings = check.check_cluster(Needs(f"{tmp_path}/runs/cars", False))
    assert (findings.run, findings.wrong) == (f"{tmp_path}/runs/cars", None)
    assert findings.nodes[0].wrong == {}
    assert list((tmp_path / "runs").iterdir()) == []


def test_storage_that_cannot_be_written_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_own_ip", lambda: "10.0.0.1")
    monkeypatch.setattr(check, "_ask_nodes", lambda *given: [])
    (tmp_path / "runs").write_text("a file")
    findings = check.check_cluster(Needs(f"{tmp_path}/runs/cars", False))
    assert "cannot be written" in findings.nodes[0].wrong["storage"]


def test_a_new_run_must_not_exist_and_an_old_one_must(tmp_path: Path) -> None:
    run = Location.of(tmp_path / "cars")
    new, old = Needs(str(run), False), Needs(str(run), True)
    assert check._check_run(run, new)[0] is None
    assert "no run is there" in str(check._check_run(run, old)[0])
    (run / "run.yaml").write_text(
        "config: {data: {source: folder, path: /d, cache_dir: /scratch, images: null}}"
    )
    assert "exists" in str(check._check_run(run, new)[0])
    wrong, needs = check._check_run(run, old)
    assert wrong is None
    assert needs.paths == (Need("data.path", "/d", True),)
    assert needs.cache == "/scratch"


def test_a_run_that_cannot_be_looked_at_is_said() -> None:
    assert "cannot be looked at" in str(
        check._check_run(Location.of("nosuch://b/r"), Needs("nosuch://b/r", False))[0]
    )
