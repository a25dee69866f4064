from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import polars
import pytest
import yaml
from rich.console import Console

from ensemble.blend_value import read_blend
from ensemble.files import Location
from ensemble.store import OofStore
from tests.conftest import MakeTinyImages, TinyImages, _write_images
from trainables import loop
from tuner.errors import UserError
from tuner.study import Outcome, resume, search

SMALL = (
    *("folds.k=2", "train.image_size=32", "train.epochs=2", "augment=none"),
    *("backbone=choice(test_resnet,test_efficientnet)", "optimizer.lr=2e-3"),
    *("loss.label_smoothing=interval(0.0,0.1)", "search.pruning.min_epochs=1"),
    *("search.budget.configurations=4", "search.promotion.members=2"),
)


def small_search(images: TinyImages, storage: Path, *more: str, name: str = "run") -> Outcome:
    return search(
        [
            *("experiment=scratch", f"storage={storage}", f"name={name}", "data=csv"),
            *(f"data.path={images.csv}", f"data.images={images.images}"),
            *SMALL,
            *more,
        ],
        console=Console(quiet=True),
        in_process=True,
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> TinyImages:
    return _write_images(tmp_path_factory.mktemp("study") / "images", 3, 10, 32, 0)


@pytest.fixture(scope="module")
def outcome(images: TinyImages, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    sample = images.root / "sample.csv"
    order = sorted(images.ids, key=lambda name: name[::-1])[:7]
    sample.write_text("image,answer\n" + "".join(f"{name},class_00\n" for name in order))
    return small_search(
        images,
        tmp_path_factory.mktemp("runs"),
        f"data.test_images={images.images}",
        f"data.sample_submission={sample}",
    )


def test_a_search_leaves_every_file_that_the_design_names(outcome: Outcome) -> None:
    root = outcome.stored.directory.root.local_path
    for name in ("run.yaml", "folds.parquet", "fold_runs.parquet", "blend.json", "submission.csv"):
        assert (root / name).is_file(), name
    for member in outcome.stored.race.members:
        for fold in range(2):
            assert (root / "oof" / f"config_id={member}" / f"fold={fold}.parquet").is_file()
            assert (root / "test" / f"config_id={member}" / f"fold={fold}.parquet").is_file()
            assert (root / "weights" / member / f"fold={fold}" / "model.safetensors").is_file()


def test_the_page_of_a_search_that_is_over_does_not_say_that_it_still_runs(
    outcome: Outcome,
) -> None:
    page = (outcome.stored.directory.root.local_path / "report.html").read_text()
    assert "members" in page
    assert "still running" not in page


@pytest.mark.parametrize(
    ("more", "is_said"), [((), False), (("search.metric=accuracy",), True)], ids=["same", "other"]
)
def test_a_search_for_one_metric_that_is_blended_for_another_says_so(
    tmp_path: Path, more: tuple[str, ...], is_said: bool
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stray").touch()  # so that it ends at once
    console = Console(file=StringIO(), width=300)
    overrides = ("experiment=digits", f"storage={tmp_path}", "name=run", *more)
    with pytest.raises(UserError, match="not a run directory"):
        search(overrides, console=console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    note = "compared by accuracy, the ensemble is fitted for log_loss; blend=accuracy fits it"
    assert (note in said) is is_said


def test_every_training_id_appears_once_per_member(outcome: Outcome, images: TinyImages) -> None:
    root = outcome.stored.directory.root.local_path
    for member in outcome.stored.race.members:
        table = pd.read_parquet(root / "oof" / f"config_id={member}")
        assert sorted(table["id"]) == sorted(images.ids)
        folds = pd.read_parquet(root / "folds.parquet").set_index("id")
        assert (folds.loc[table["id"], "fold"].to_numpy() == table["fold"].to_numpy()).all()


def test_the_whole_store_is_one_table(outcome: Outcome, images: TinyImages) -> None:
    root = outcome.stored.directory.root.local_path
    wanted = len(images.ids) * len(outcome.stored.race.members)
    members = outcome.stored.race.members
    by_pandas = pd.read_parquet(root / "oof")
    assert len(by_pandas[by_pandas["config_id"].isin(members)]) == wanted
    by_polars = polars.read_parquet(root / "oof" / "**" / "*.parquet", hive_partitioning=True)
    assert len(by_polars.filter(polars.col("config_id").is_in(members))) == wanted


def test_the_submission_follows_the_sample(outcome: Outcome, images: TinyImages) -> None:
    root = outcome.stored.directory.root.local_path
    written = pd.read_csv(root / "submission.csv")
    sample = pd.read_csv(images.root / "sample.csv")
    assert list(written.columns) == list(sample.columns)
    assert written["image"].tolist() == sample["image"].tolist()
    assert set(written["answer"]) <= set(images.classes)


def test_the_blend_is_not_the_in_sample_score_in_disguise(outcome: Outcome) -> None:
    blend = read_blend(outcome.stored.directory.blend)
    assert blend == outcome.blend
    assert blend.n_rows == 30
    assert blend.nested.blend.value != blend.in_sample


def test_a_configuration_is_stored_with_its_rows(outcome: Outcome) -> None:
    store = OofStore(outcome.stored.directory.root)
    for member in outcome.stored.race.members:
        stored = store.metadata(member).configuration
        assert stored == outcome.stored.configurations[member]


def test_with_one_slot_the_same_seed_gives_the_same_run(
    images: TinyImages, tmp_path: Path, outcome: Outcome
) -> None:
    again = small_search(images, tmp_path)
    first = outcome.stored.race
    assert list(again.stored.race.entrants) == list(first.entrants)
    assert again.stored.race.members == first.members
    store, other = OofStore(again.stored.directory.root), OofStore(outcome.stored.directory.root)
    for member in first.members:
        np.testing.assert_array_equal(
            store.read_member(member).proba, other.read_member(member).proba
        )


def test_another_seed_gives_another_run(
    images: TinyImages, tmp_path: Path, outcome: Outcome
) -> None:
    again = small_search(images, tmp_path, "seed=1", "search.budget.configurations=2")
    assert not set(again.stored.race.entrants) & set(outcome.stored.race.entrants)


def test_an_interrupted_search_goes_on_and_ends_the_same(
    images: TinyImages, tmp_path: Path, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, epochs = loop.FoldRun.next_epoch, []

    def power_cut(self: loop.FoldRun) -> object:
        epochs.append(self.task)
        if len(epochs) == 6:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(loop.FoldRun, "next_epoch", power_cut)
    with pytest.raises(KeyboardInterrupt):
        small_search(images, tmp_path)
    monkeypatch.undo()
    resumed = resume(str(tmp_path / "run"), console=Console(quiet=True), in_process=True)
    assert resumed.stored.race.members == outcome.stored.race.members
    member = resumed.stored.race.members[0]
    np.testing.assert_array_equal(
        OofStore(resumed.stored.directory.root).read_member(member).proba,
        OofStore(outcome.stored.directory.root).read_member(member).proba,
    )


def test_a_failing_configuration_is_a_row_with_its_error_and_the_search_goes_on(
    images: TinyImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.FoldRun.next_epoch

    def sometimes(self: loop.FoldRun) -> object:
        if "efficientnet" in self.task.configuration.backbone.name:
            raise RuntimeError("the kernel ate it")
        return real(self)

    monkeypatch.setattr(loop.FoldRun, "next_epoch", sometimes)
    ended = small_search(images, tmp_path, "search.max_failures=1")
    rows = pd.read_parquet(tmp_path / "run" / "fold_runs.parquet")
    failed = rows[rows["status"] == "failed"]
    assert len(failed)
    assert set(failed["why"]) == {"RuntimeError: the kernel ate it"}
    assert set(failed["failures"]) == {2}
    assert ended.stored.race.members


def test_a_search_in_which_everything_fails_says_why(
    images: TinyImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: loop.FoldRun) -> object:
        raise RuntimeError("the kernel ate it")

    monkeypatch.setattr(loop.FoldRun, "next_epoch", broken)
    ended = small_search(images, tmp_path, "search.max_failures=0")
    assert ended.blend is None
    assert "the first of 4 failures: RuntimeError: the kernel ate it" in ended.why_empty()


def test_a_changed_search_space_refuses_to_resume(images: TinyImages, tmp_path: Path) -> None:
    small_search(images, tmp_path, "search.budget.configurations=1", "search.promotion.members=1")
    file = tmp_path / "run" / "run.yaml"
    content = yaml.safe_load(file.read_text())
    content["overrides"].append("loss.label_smoothing=interval(0.0,0.3)")
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="the search space has changed since this run began"):
        resume(str(tmp_path / "run"), console=Console(quiet=True), in_process=True)


def test_a_run_with_groups_of_its_own_goes_on_without_their_folder(
    images: TinyImages, tmp_path: Path
) -> None:
    (tmp_path / "own" / "folds").mkdir(parents=True)
    (tmp_path / "own" / "folds" / "two.yaml").write_text("k: 2\n")
    overrides = [one for one in SMALL if not one.startswith(("folds.k", "backbone="))]
    search(
        [
            *("experiment=scratch", f"storage={tmp_path}", "name=run", "data=csv"),
            *(f"data.path={images.csv}", f"data.images={images.images}"),
            *(*overrides, "folds=two", "backbone=test_resnet"),
        ],
        config_dir=tmp_path / "own",
        console=Console(quiet=True),
        in_process=True,
    )
    (tmp_path / "own").rename(tmp_path / "moved")
    again = resume(str(tmp_path / "run"), console=Console(quiet=True), in_process=True)
    assert again.stored.race.members


def test_groups_stay_together_and_the_run_knows_them(
    tiny_images: MakeTinyImages, tmp_path: Path
) -> None:
    images = tiny_images(classes=2, per_class=8)
    table = pd.read_csv(images.csv)
    table["owner"] = [f"o{row // 2}" for row in range(len(table))]
    table.to_csv(images.csv, index=False)
    small_search(
        images,
        tmp_path,
        *("data.group_column=owner", "search.budget.configurations=1"),
        *("search.promotion.members=1", "train.epochs=1"),
    )
    folds = pd.read_parquet(tmp_path / "run" / "folds.parquet")
    assert folds.groupby("group")["fold"].nunique().max() == 1
    assert (folds.set_index("id").loc[table["id"], "group"].to_numpy() == table["owner"]).all()


def test_a_run_on_a_location_is_found_by_its_uri(outcome: Outcome) -> None:
    root = outcome.stored.directory.root
    assert Location.of(str(root)) == root
