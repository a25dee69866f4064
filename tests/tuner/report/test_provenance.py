from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from tests.tuner.report.made_report import stored_run
from tuner.replayed import StoredRun, read_run
from tuner.report.blocks import Facts, Paragraph, Table
from tuner.report.provenance import provenance_of, provenance_section


def with_yaml(root: Path) -> StoredRun:
    """A run whose run.yaml has what a search writes there."""
    stored = stored_run(root)
    content = yaml.safe_load(stored.directory.run_yaml.read_text())
    content["created"] = "2026-01-02T03:04:05Z"
    content["overrides"] = ["experiment=csv", "data.path=my images/train.csv"]
    content["versions"] = {"foldblend": "0.1.0", "torch": "2.9"}
    content["data"] |= {"n_train": 1200, "n_test": 400, "n_dropped": 0}
    content["space"]["searched"] = [{"key": "optimizer.lr", "range": "log 1..2", "holds_when": ""}]
    stored.directory.run_yaml.write_text(yaml.safe_dump(content))
    return read_run(str(root))


def test_the_command_can_be_typed_again(tmp_path: Path) -> None:
    found = provenance_of(with_yaml(tmp_path))
    assert found.command == "foldblend search experiment=csv 'data.path=my images/train.csv'"
    assert (found.created, found.rows, found.test_rows) == (
        "2026-01-02T03:04:05Z",
        "1\u202f200",
        "400",
    )
    assert found.versions["torch"] == "2.9"
    assert found.searched[0].key == "optimizer.lr"


def test_only_files_that_are_there_are_linked(tmp_path: Path) -> None:
    stored = stored_run(tmp_path)
    assert {name for name, _ in provenance_of(stored).files} == {"run.yaml", "journal"}
    stored.directory.submission.write_text("")
    assert "submission.csv" in {name for name, _ in provenance_of(stored).files}


def test_links_are_relative_to_the_page(tmp_path: Path) -> None:
    section = provenance_section(provenance_of(stored_run(tmp_path)))
    files = [block for block in section.blocks if isinstance(block, Table)][-1]
    assert files.rows[0][0] == '<a href="run.yaml">run.yaml</a>'


def test_facts_that_an_older_version_did_not_write_are_left_out(tmp_path: Path) -> None:
    facts = provenance_section(provenance_of(stored_run(tmp_path))).blocks[0]
    assert isinstance(facts, Facts)
    names = [name for name, _ in facts.pairs]
    assert "seed" in names
    assert "versions" not in names
    assert "images" not in names


def test_a_blend_of_other_data_is_a_warning(tmp_path: Path) -> None:
    found = replace(provenance_of(stored_run(tmp_path)), fingerprint="aa")
    for other, tones in (("bb", ["warning"]), ("aa", []), (None, [])):
        blocks = provenance_section(found, other).blocks
        assert [block.tone for block in blocks if isinstance(block, Paragraph)] == tones
