from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from ensemble.analysis.tables import TABLES, read_analysis
from ensemble.blend_value import read_blend
from ensemble.files import Location
from ensemble.sources.gather import GatherOptions
from ensemble.sources.label_table import run_label_table
from ensemble.store import OofStore
from tests.conftest import _write_images
from tests.ensemble.made import member_probabilities
from tests.tuner.test_finish import tiny_search
from tuner.blend_command import Blended, BlendRequest, blend_gathered
from tuner.errors import UserError

CLASSES = ("cat", "dog", "élan")
QUICK = {"bootstrap": 20, "refits": 2, "explain": False, "methods": ["equal", "convex"]}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Two models of another program: a wide CSV and an array, with test predictions of both."""
    probs, labels, folds = member_probabilities(0, 2, 150, 3)
    ids = [f"{row:03}" for row in range(150)]
    known, unknown = slice(0, 120), slice(120, 150)
    (tmp_path / "oof").mkdir()
    (tmp_path / "test").mkdir()
    for index, name in enumerate(("resnet", "vit")):
        for folder, rows in (("oof", known), ("test", unknown)):
            table = pd.DataFrame(probs[index, rows].astype(float), columns=list(CLASSES))
            table /= table.sum(axis=1).to_numpy()[:, None]
            table.insert(0, "id", ids[rows])
            if index:
                np.save(tmp_path / folder / f"{name}.npy", table[list(CLASSES)].to_numpy())
                table[["id"]].to_csv(tmp_path / folder / f"{name}.csv", index=False)
            else:
                table.sample(frac=1, random_state=0).to_csv(
                    tmp_path / folder / f"{name}.csv", index=False
                )
    pd.DataFrame(
        {"id": ids[known], "label": np.array(CLASSES)[labels[known]], "fold": folds[known]}
    ).to_csv(tmp_path / "train.csv", index=False)
    return tmp_path


def request(elsewhere: Path, **changes: object) -> BlendRequest:
    options: dict = {
        "sources": (str(elsewhere),),
        "changes": QUICK,
        "gather": GatherOptions(labels=str(elsewhere / "train.csv")),
        "folder": elsewhere / "out",
    }
    return BlendRequest(**(options | changes))


def quiet() -> Console:
    return Console(quiet=True)


def test_members_of_other_programs_are_blended_judged_and_analysed(elsewhere: Path) -> None:
    blended = blend_gathered(request(elsewhere), quiet())
    assert {one.config_id for one in blended.blend.members} == {"resnet", "vit"}
    assert read_blend(Location.of(elsewhere / "out" / "blend.json")) == blended.blend
    assert not blended.blend.has_probe_fold
    tables = read_analysis(Location.of(elsewhere / "out" / "analysis"))
    assert set(TABLES) <= set(tables)
    nested = pq.read_table(elsewhere / "out" / "blend_oof.parquet")
    assert sorted(nested["id"].to_pylist()) == [f"{row:03}" for row in range(120)]
    for path, _ in blended.written:
        assert Path(path).exists()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, `one` and `two`, on the same images with other folds; `two` kept its best epoch."""
    root = tmp_path_factory.mktemp("runs")
    images = _write_images(root / "images", 2, 6, 32, 0)
    for name, *more in (("one", "optimizer.lr=1e-3"), ("two", "seed=7", "train.keep=best")):
        tiny_search(images, str(root), f"name={name}", "search.budget.configurations=1", *more)
    return root


def of_sources(*sources: Path, folder: Path, **gather: object) -> Blended:
    request = BlendRequest(
        sources=tuple(map(str, sources)),
        changes={**QUICK, "methods": ["equal"]},
        gather=GatherOptions(**gather),  # type: ignore[arg-type]
        folder=folder,
    )
    assert not request.is_one_run
    return blend_gathered(request, quiet())


def oof_table(run: Path, where: Path) -> Path:
    """The out-of-fold predictions of a run's only member as another program would write them."""
    store = OofStore(Location.of(run))
    (name,) = store.config_ids()
    member = store.read_member(name)
    table = pd.DataFrame(member.proba, columns=list(store.metadata(name).classes))
    table.insert(0, "id", member.ids)
    table.to_csv(where, index=False)
    return where


def test_members_of_several_runs_were_selected_on_a_probe_fold(runs: Path, tmp_path: Path) -> None:
    blended = of_sources(runs / "one", runs / "two", folder=tmp_path / "out")
    assert blended.blend.probe_fold == 0
    members = {one.config_id for one in blended.blend.members}
    assert {name.partition("/")[0] for name in members} == {"one", "two"}
    # The other run has other folds: rows that it was selected on stay.
    (note,) = [note for note in blended.notes if "were selected on its fold 0" in note]
    assert note.startswith(f"{runs / 'two'}: ")
    assert blended.optimistic == tuple(name for name in members if name.startswith("two/"))


def test_the_probe_fold_is_that_of_the_run_which_gave_the_folds_wherever_it_stands(
    runs: Path, tmp_path: Path
) -> None:
    table = oof_table(runs / "two", tmp_path / "elsewhere.csv")
    for sources in ((runs / "one", table), (table, runs / "one")):
        blended = of_sources(*sources, folder=tmp_path / "out")
        assert blended.blend.probe_fold == 0
        assert not [note for note in blended.notes if "were selected on its fold" in note]
        assert blended.optimistic == ()


def test_folds_of_a_table_of_labels_have_no_probe_fold_but_the_run_was_selected_on_one(
    runs: Path, tmp_path: Path
) -> None:
    table = run_label_table(Location.of(runs / "one"))
    frame = pd.DataFrame({"id": table.ids, "label": table.labels})
    frame["fold"] = np.arange(len(frame)) % 3
    frame.to_csv(tmp_path / "y.csv", index=False)
    blended = of_sources(runs / "one", folder=tmp_path / "out", labels=str(tmp_path / "y.csv"))
    assert not blended.blend.has_probe_fold
    (note,) = [note for note in blended.notes if "were selected on its fold 0" in note]
    assert table.folds is not None
    assert f"and {np.count_nonzero(table.folds == 0)} of those rows" in note


def test_where_the_order_of_the_classes_counts_it_is_said(elsewhere: Path) -> None:
    def order_notes(metric: str) -> list[str]:
        blended = blend_gathered(request(elsewhere, changes={**QUICK, "metric": metric}), quiet())
        return [note for note in blended.notes if "order of the classes" in note]

    assert order_notes("log_loss") == []
    (note,) = order_notes("quadratic_kappa")
    assert note.startswith(
        "quadratic_kappa depends on the order of the classes, here 'cat', 'dog', 'élan': a first"
    )


def test_the_submission_has_probabilities_for_log_loss_and_classes_for_accuracy(
    elsewhere: Path,
) -> None:
    wide, narrow = elsewhere / "wide.csv", elsewhere / "narrow.csv"
    blend_gathered(request(elsewhere, submission=wide), quiet())
    table = pd.read_csv(wide, dtype={"id": str}).set_index("id")
    assert list(table.columns) == list(CLASSES)
    assert sorted(table.index) == [f"{row:03}" for row in range(120, 150)]
    np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-5)
    changes = {**QUICK, "metric": "accuracy"}
    blend_gathered(request(elsewhere, submission=narrow, changes=changes), quiet())
    labels = pd.read_csv(narrow, dtype={"id": str}).set_index("id")["label"]
    assert set(labels) <= set(CLASSES)
    blend_gathered(
        request(elsewhere, submission=narrow, changes=changes, probabilities=True), quiet()
    )
    assert list(pd.read_csv(narrow).columns) == ["id", *CLASSES]


def test_rules_are_judged_on_labelled_rows_and_applied_to_the_test(elsewhere: Path) -> None:
    labels = pd.read_csv(elsewhere / "train.csv", dtype={"id": str})
    right = labels.rename(columns={"label": "class"})[["id", "class"]].head(60)
    unseen = pd.DataFrame({"id": ["130"], "class": ["élan"]})
    pd.concat([right, unseen]).to_csv(elsewhere / "words.csv", index=False)
    out = elsewhere / "submission.csv"
    blended = blend_gathered(
        request(elsewhere, rules=str(elsewhere / "words.csv"), submission=out), quiet()
    )
    rules, stages = blended.blend.rules, blended.blend.stages
    assert rules is not None
    assert (rules.rows, rules.trust) == (60, 1.0)
    assert [stage.name for stage in stages][-1] == "rules"
    assert stages[-1].nested < stages[-2].nested
    table = pd.read_csv(out, dtype={"id": str}).set_index("id")
    assert table.loc["130", "élan"] == 1.0


def test_a_missing_test_file_of_a_used_member_is_named(elsewhere: Path) -> None:
    for file in (elsewhere / "test").glob("vit.*"):
        file.unlink()
    wanted = request(
        elsewhere, submission=elsewhere / "s.csv", changes={**QUICK, "methods": ["equal"]}
    )
    with pytest.raises(UserError, match=r"no test predictions of member vit.*--test"):
        blend_gathered(wanted, quiet())
    assert (elsewhere / "out" / "blend.json").exists()


def test_a_missing_file_of_rules_is_one_line(elsewhere: Path) -> None:
    with pytest.raises(UserError, match="no such file of rules"):
        blend_gathered(request(elsewhere, rules=str(elsewhere / "nothing.csv")), quiet())


def test_what_was_asked_for_is_checked_like_any_configuration(elsewhere: Path) -> None:
    with pytest.raises(ValueError, match=r"blend.methods.0=gready.*did you mean greedy"):
        blend_gathered(request(elsewhere, changes={"methods": ["gready"]}), quiet())


def test_blend_json_holds_nothing_but_plain_values(elsewhere: Path) -> None:
    blend_gathered(request(elsewhere), quiet())
    plain = json.loads((elsewhere / "out" / "blend.json").read_text())
    assert plain["version"] == 2
    assert plain["combination"]["kind"] == "mean"
