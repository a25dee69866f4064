from __future__ import annotations

import uuid
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.library import read_library
from ensemble.predictions import Predictions
from ensemble.sources.gather import GatherOptions, gather
from ensemble.store import OofStore, StoreMetadata, write_predictions
from tests.ensemble.sources.made import (
    CLASSES,
    label_frame,
    members,
    reordered,
    same,
    wide,
    write_run,
)


def refused(message: str, *sources: Path, **options: object) -> None:
    with pytest.raises(BlendError, match=message) as caught:
        gather([str(source) for source in sources], GatherOptions(**options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


class TestRuns:
    def test_a_run_gives_its_complete_members(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        groups = [f"sender of fold {fold}" for fold in made["c0"].folds]
        run = write_run(tmp_path / "run", made, groups=groups)
        partial = made["c0"].take(np.flatnonzero(made["c0"].folds == 0))
        where = OofStore(Location.of(run)).fold_location("oof", "c9", 0)
        write_predictions(where, partial, StoreMetadata(CLASSES, "c9", {}, {}, "f00d"))
        got = gather([str(run)])
        same(got, made)
        assert got.groups is not None
        assert got.groups.tolist() == groups
        assert got.notes == (f"{run}: 1 of 3 configurations lack folds: left out",)

    def test_several_runs_prefix_their_members_and_may_order_classes_and_rows_otherwise(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        one = write_run(tmp_path / "a", {"c0": made["c0"]})
        turned = reordered(made["c1"], [2, 0, 1])
        turned = turned.take(np.random.default_rng(0).permutation(60))
        two = write_run(tmp_path / "b", {"c0": turned}, classes=("élan", "cat", "dog"))
        got = gather([str(one), str(two)])
        same(got, {"a/c0": made["c0"], "b/c0": made["c1"]})
        assert got.notes == ()

    def test_other_folds_in_a_second_run_are_noted_and_those_of_the_first_kept(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        one = write_run(tmp_path / "a", {"c0": made["c0"]})
        member = made["c1"]
        other = Predictions(member.ids, member.labels, np.roll(member.folds, 1), member.proba)
        two = write_run(tmp_path / "b", {"c1": other})
        got = gather([str(one), str(two)])
        np.testing.assert_array_equal(got.members["b/c1"].folds, made["c0"].folds)
        assert [note for note in got.notes if note.startswith("folds differ between")]

    def test_folds_with_other_numbers_are_no_difference(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        one = write_run(tmp_path / "a", {"c0": made["c0"]})
        member = made["c1"]
        other = Predictions(member.ids, member.labels, (member.folds + 1) % 3, member.proba)
        two = write_run(tmp_path / "b", {"c1": other})
        assert gather([str(one), str(two)]).notes == ()

    def test_a_run_on_other_rows_or_labels_is_refused(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        one = write_run(tmp_path / "a", {"c0": made["c0"].take(slice(0, 58))})
        two = write_run(tmp_path / "b", {"c1": made["c1"]})
        refused("b c1: expected the 58 ids of .*: 2 unexpected", one, two)
        member = made["c1"]
        labels = np.where(np.arange(60) == 3, (member.labels + 1) % 3, member.labels)
        wrong = Predictions(member.ids, labels.astype(np.int32), member.folds, member.proba)
        three = write_run(tmp_path / "c", {"c1": wrong})
        refused(r"id 'image 3\.jpg': expected label .* \(1 rows differ\)", two, three)

    def test_a_row_of_another_fold_is_refused(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        run = write_run(tmp_path / "a", {"c0": made["c0"]})
        write_run(tmp_path / "b", {"c0": made["c0"].take(slice(0, 60))})
        member = made["c0"]
        other = Predictions(member.ids, member.labels, np.roll(member.folds, 1), member.proba)
        write_run(tmp_path / "b", {"c0": other})
        (tmp_path / "b" / "folds.parquet").write_bytes((run / "folds.parquet").read_bytes())
        refused(r"expected fold \d as in folds\.parquet, got \d", tmp_path / "b")

    def test_a_run_without_complete_members_is_refused(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        run = write_run(tmp_path / "a", {"c0": made["c0"]})
        (run / "oof" / "config_id=c0" / "fold=2.parquet").unlink()
        refused("no complete member: of 1 configurations the furthest has 2 of 3 folds", run)

    def test_tests_of_a_run_are_one_a_fold(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        run = write_run(tmp_path / "a", made)
        store = OofStore(Location.of(run))
        for name, seed in (("c0", 7), ("c1", 8)):
            for fold, part in enumerate(members(seed, 2).values()):
                shuffled = part.take(np.random.default_rng(fold).permutation(60))
                about = StoreMetadata(CLASSES, name, {}, {}, "f00d")
                write_predictions(store.fold_location("test", name, fold), shuffled, about)
        got = gather([str(run)])
        assert {name: len(parts) for name, parts in got.tests.items()} == {"c0": 2, "c1": 2}
        ids = got.tests["c0"][0].ids
        for name, seed in (("c0", 7), ("c1", 8)):
            for part, expected in zip(got.tests[name], members(seed, 2).values(), strict=True):
                np.testing.assert_array_equal(part.ids, ids)
                np.testing.assert_array_equal(part.proba, expected.aligned_to(ids).proba)

    def test_a_run_on_s3_and_a_file_beside_it_are_gathered(
        self, s3_endpoint: str, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        run = write_run(tmp_path / "run", {"c0": made["c0"]})
        where = Location.of(f"s3://runs/{uuid.uuid4().hex}?endpoint_override={s3_endpoint}")
        for path in sorted(run.rglob("*.parquet")):
            target = where
            for part in path.relative_to(run).parts:
                target = target / part
            target.write_bytes(path.read_bytes())
        wide(made["c1"]).to_csv(tmp_path / "c1.csv", index=False)
        same(gather([where.uri, str(tmp_path / "c1.csv")]), made, atol=1e-6)


class TestFiles:
    @settings(deadline=None, max_examples=10)
    @given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["csv", "parquet", "npy"]))
    def test_shuffled_rows_give_the_same_members(
        self, tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str
    ) -> None:
        folder = tmp_path_factory.mktemp("files")
        rng = np.random.default_rng(seed)
        made = members()
        label_frame(made["c0"]).to_csv(folder / "y.csv", index=False)
        for name, member in made.items():
            shuffled = member.take(rng.permutation(60))
            table = wide(shuffled)
            if kind == "csv":
                table.to_csv(folder / f"{name}.csv", index=False)
            elif kind == "parquet":
                table.to_parquet(folder / f"{name}.parquet")
            else:
                np.save(folder / f"{name}.npy", shuffled.proba)
                table[["id"]].to_csv(folder / f"{name}.csv", index=False)
        sources = [str(folder / f"{name}.{kind}") for name in made]
        got = gather(sources, GatherOptions(labels=str(folder / "y.csv")))
        same(got, made, atol=1e-6)
        assert got.members["c0"].ids.tolist() == made["c0"].ids.tolist()

    def test_a_table_may_bring_its_own_labels_and_folds(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        wide(made["c0"], prefix="proba_", labels=True, folds=True).to_csv(
            tmp_path / "c0.csv", index=False
        )
        pl.from_pandas(wide(made["c1"], classes=CLASSES)).write_parquet(tmp_path / "c1.parquet")
        got = gather([str(tmp_path / "c0.csv"), str(tmp_path / "c1.parquet")])
        same(got, made, atol=1e-6)
        assert got.notes == ()

    def test_every_kind_of_file_beside_a_run_is_the_same_member(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        run = write_run(tmp_path / "run", {"c0": made["c0"]})
        member = made["c1"]
        table = wide(member)
        table.to_csv(tmp_path / "comma.csv", index=False)
        table.to_csv(tmp_path / "semicolon.csv", index=False, sep=";", encoding="utf-8-sig")
        wide(member, classes=("0", "1", "2"), prefix="p_").to_parquet(tmp_path / "numbers.pq")
        pl.from_pandas(table).write_parquet(tmp_path / "polars.parquet")
        duckdb.from_df(table).write_parquet(f"{tmp_path}/duckdb.parquet")
        long = table.melt("id", var_name="class", value_name="probability")
        long.sample(frac=1, random_state=0).to_csv(tmp_path / "long.csv", index=False)
        lists = pl.DataFrame(
            {"id": member.ids.tolist(), "probs": member.proba.tolist()},
            schema={"id": pl.String, "probs": pl.List(pl.Float32)},
        )
        lists.write_parquet(tmp_path / "lists.parquet")
        about = StoreMetadata(CLASSES, "c1", {}, {}, "")
        write_predictions(Location.of(tmp_path / "store.parquet"), member, about)
        np.save(tmp_path / "array.npy", member.proba)
        names = [
            *("comma.csv", "semicolon.csv", "numbers.pq", "polars.parquet", "duckdb.parquet"),
            *("long.csv", "lists.parquet", "store.parquet", "array.npy"),
        ]
        got = gather([str(run), *(str(tmp_path / name) for name in names)])
        expected = {"c0": made["c0"]} | {name.partition(".")[0]: member for name in names}
        same(got, expected, atol=1e-6)
        assert got.notes == (
            f"columns of {tmp_path}/numbers.pq and of 2 more have no names: taken for 'cat', "
            "'dog', 'élan', in order",
            f"{tmp_path}/array.npy: has no ids, so its rows are taken to be those of "
            f"{run}/folds.parquet, in order",
        )

    def test_rows_without_a_label_are_left_out_with_a_note(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        label_frame(made["c0"].take(slice(0, 57))).to_csv(tmp_path / "y.csv", index=False)
        wide(made["c0"]).to_csv(tmp_path / "c0.csv", index=False)
        got = gather([str(tmp_path / "c0.csv")], GatherOptions(labels=str(tmp_path / "y.csv")))
        same(got, {"c0": made["c0"].take(slice(0, 57))}, atol=1e-6)
        assert got.notes == (
            f"{tmp_path}/c0.csv: 3 ids have no label ('image 57.jpg', 'image 58.jpg', "
            "'image 59.jpg'): left out",
        )

    def test_groups_and_row_weights_come_from_the_labels(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        frame = label_frame(made["c0"], folds=False)
        frame["group"] = [f"g{i // 3}" if i else None for i in range(60)]
        frame["weight"] = np.arange(60) / 2
        frame.to_csv(tmp_path / "y.csv", index=False)
        wide(made["c0"]).to_csv(tmp_path / "c0.csv", index=False)
        options = GatherOptions(labels=str(tmp_path / "y.csv"), folds=3)
        got = gather([str(tmp_path / "c0.csv")], options)
        assert got.groups is not None
        assert got.groups[:4].tolist() == [None, "g0", "g0", "g1"]
        assert got.row_weights is not None
        np.testing.assert_array_equal(got.row_weights, np.arange(60) / 2)
        folds = got.members["c0"].folds
        assert set(folds.tolist()) == {0, 1, 2}
        assert folds[1] == folds[2]
        assert got.notes == ("no folds given: 3 stratified and grouped folds made here (seed 0)",)

    def test_names_that_collide_get_their_folder(
        self, tmp_path: Path, labels: str, made: dict[str, Predictions]
    ) -> None:
        for name, member in made.items():
            (tmp_path / name).mkdir()
            wide(member).to_csv(tmp_path / name / "oof.csv", index=False)
        sources = [str(tmp_path / name / "oof.csv") for name in made]
        got = gather(sources, GatherOptions(labels=labels))
        same(got, {"c0/oof": made["c0"], "c1/oof": made["c1"]}, atol=1e-6)
        refused("came from .* already", *map(Path, sources[:1] * 2), labels=labels)

    def test_gathered_members_make_a_library(
        self, tmp_path: Path, labels: str, made: dict[str, Predictions]
    ) -> None:
        for name, member in made.items():
            wide(member).to_csv(tmp_path / f"{name}.csv", index=False)
        got = gather([str(tmp_path / f"{name}.csv") for name in made], GatherOptions(labels=labels))
        library = read_library(got.names, got.members.__getitem__, got.classes)
        np.testing.assert_allclose(library.p_true[1], made["c1"].p_true, atol=1e-6)


class TestRefusals:
    def test_nothing_or_a_wrong_path_is_refused_with_the_nearest_name(
        self, tmp_path: Path, labels: str
    ) -> None:
        refused("expected at least one run, folder or file")
        (tmp_path / "preds.csv").write_text("id,cat\n")
        refused(r"no such file or folder; did you mean 'preds\.csv'", tmp_path / "pred.csv")
        (tmp_path / "notes.docx").write_text("x")
        refused("expected a run directory, a folder, or a file ending in", tmp_path / "notes.docx")

    def test_no_labels_anywhere_says_what_to_give(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        wide(made["c0"]).to_csv(tmp_path / "c0.csv", index=False)
        refused(
            "no labels: none of .* has a label column; give a CSV or Parquet file",
            tmp_path / "c0.csv",
        )

    def test_missing_rows_are_named_and_counted(
        self, tmp_path: Path, labels: str, made: dict[str, Predictions]
    ) -> None:
        wide(made["c0"].take(slice(4, None))).to_csv(tmp_path / "c0.csv", index=False)
        refused(
            r"c0\.csv: expected the 60 ids of .*y\.csv, got 56: 4 missing \('image 0\.jpg', "
            r"'image 1\.jpg', 'image 2\.jpg', …\)",
            tmp_path / "c0.csv",
            labels=labels,
        )

    def test_a_doubled_row_is_named(
        self, tmp_path: Path, labels: str, made: dict[str, Predictions]
    ) -> None:
        table = wide(made["c0"])
        pd.concat([table, table[5:7]]).to_csv(tmp_path / "c0.csv", index=False)
        refused(
            r"c0\.csv: expected every id once, got 2 of them twice or more \('image 5\.jpg', "
            r"'image 6\.jpg'\)",
            tmp_path / "c0.csv",
            labels=labels,
        )

    def test_labels_that_differ_from_the_files_own_are_refused(
        self, tmp_path: Path, labels: str, made: dict[str, Predictions]
    ) -> None:
        table = wide(made["c0"], labels=True)
        table.loc[3, "label"] = next(name for name in CLASSES if name != table.loc[3, "label"])
        table.to_csv(tmp_path / "c0.csv", index=False)
        refused(r"'image 3\.jpg': expected label", tmp_path / "c0.csv", labels=labels)

    def test_logits_are_recognised(
        self, tmp_path: Path, labels: str, made: dict[str, Predictions]
    ) -> None:
        table = wide(made["c0"])
        table[list(CLASSES)] = np.log(table[list(CLASSES)]) * 3 + 1
        table.to_csv(tmp_path / "c0.csv", index=False)
        refused("looks like logits: apply softmax", tmp_path / "c0.csv", labels=labels)


class TestFolders:
    def test_a_folder_of_submissions_pairs_oof_and_test(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        folder = tmp_path / "subs"
        folder.mkdir()
        tests = members(5)
        wide(made["c0"]).to_csv(folder / "c0_oof.csv", index=False)
        wide(tests["c0"]).to_csv(folder / "submission_c0.csv", index=False)
        np.save(folder / "oof_c1.npy", made["c1"].proba)
        wide(tests["c1"].take(np.arange(60)[::-1])).to_parquet(folder / "c1_test.parquet")
        wide(tests["c1"]).to_csv(folder / "c7_test.csv", index=False)
        label_frame(made["c0"]).to_csv(folder / "labels.csv", index=False)
        got = gather([str(folder)])
        same(got, made, atol=1e-6)
        for name in made:
            (test,) = got.tests[name]
            assert test.ids.tolist() == tests["c0"].ids.tolist()
            assert set(test.labels.tolist()) == {-1}
            np.testing.assert_allclose(test.proba, tests[name].proba, atol=1e-6)
        assert f"{folder}/c7_test.csv: no OOF of 'c7': left out" in got.notes
        assert f"labels are those of {folder}/labels.csv" in got.notes

    def test_files_in_oof_and_test_folders_are_found(
        self, tmp_path: Path, labels: str, made: dict[str, Predictions]
    ) -> None:
        for kind, seed in (("oof", 0), ("test", 5)):
            (tmp_path / "all" / kind).mkdir(parents=True)
            made_here = members(seed)
            for name, member in made_here.items():
                np.save(tmp_path / "all" / kind / f"{name}.npy", member.proba)
            ids = pd.DataFrame({"image": made_here["c0"].ids})
            ids.to_csv(tmp_path / "all" / kind / "ids.csv", index=False)
        got = gather([str(tmp_path / "all")], GatherOptions(labels=labels))
        same(got, made)
        assert sorted(got.tests) == ["c0", "c1"]
        assert got.notes == (
            f"columns of {tmp_path}/all/oof/c0.npy and of 1 more have no names: taken for 'cat', "
            "'dog', 'élan', in order",
            f"columns of {tmp_path}/all/test/c0.npy and of 1 more have no names: taken for 'cat', "
            "'dog', 'élan', in order",
        )

    def test_tests_of_other_images_name_both_files(
        self, tmp_path: Path, labels: str, made: dict[str, Predictions]
    ) -> None:
        folder = tmp_path / "subs"
        folder.mkdir()
        for name, member in made.items():
            wide(member).to_csv(folder / f"{name}_oof.csv", index=False)
        wide(made["c0"]).to_csv(folder / "c0_test.csv", index=False)
        wide(made["c1"].take(slice(0, 58))).to_csv(folder / "c1_test.csv", index=False)
        refused(
            r"c1_test\.csv: expected the 60 ids of .*c0_test\.csv, got 58: 2 missing",
            folder,
            labels=labels,
        )
