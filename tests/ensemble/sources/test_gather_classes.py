"""What `gather` takes for a class, in which order, and of which source the folds are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.sources.gather import GatherOptions, gather
from ensemble.store import OofStore, StoreMetadata, write_predictions
from tests.ensemble.sources.made import CLASSES, label_frame, same, wide, write_run


class TestClassNames:
    def test_labels_from_one_to_ten_belong_to_the_columns_of_an_array_by_size(
        self, tmp_path: Path
    ) -> None:
        labels = np.arange(60) % 10
        np.save(tmp_path / "m.npy", np.eye(10)[labels])
        ids = [f"r{row}" for row in range(60)]
        pd.DataFrame({"id": ids, "label": labels + 1}).to_csv(tmp_path / "y.csv", index=False)
        got = gather([str(tmp_path / "m.npy")], GatherOptions(labels=str(tmp_path / "y.csv")))
        assert got.classes == tuple(map(str, range(1, 11)))
        member = got.members["m"]
        assert (member.proba.argmax(axis=1) == member.labels).all()

    @pytest.mark.parametrize("kind", ["csv", "npy"])
    def test_minus_one_and_one_are_two_classes(self, tmp_path: Path, kind: str) -> None:
        labels = np.arange(60) % 2
        proba = np.eye(2)[labels] * 0.8 + 0.1
        names = np.array(["-1", "1"])
        frame = pd.DataFrame({"id": [f"r{row}" for row in range(60)], "label": names[labels]})
        frame.to_csv(tmp_path / "y.csv", index=False)
        if kind == "npy":
            np.save(tmp_path / "m.npy", proba)
        else:
            table = pd.DataFrame(proba, columns=names)
            table.insert(0, "id", frame["id"])
            table.to_csv(tmp_path / "m.csv", index=False)
        got = gather([str(tmp_path / f"m.{kind}")], GatherOptions(labels=str(tmp_path / "y.csv")))
        assert got.classes == ("-1", "1")
        assert got.members["m"].labels.tolist() == labels.tolist()

    def test_minus_one_beside_other_names_says_that_a_label_is_unknown(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        table = wide(made["c0"], labels=True, folds=True)
        table.loc[:4, "label"] = "-1"
        table.to_csv(tmp_path / "c0.csv", index=False)
        got = gather([str(tmp_path / "c0.csv")])
        assert got.classes == CLASSES
        assert got.members["c0"].n_rows == 55
        assert f"{tmp_path}/c0.csv: 5 rows have no label: left out" in got.notes

    @pytest.mark.parametrize("long", [False, True])
    def test_an_index_that_pandas_wrote_is_no_class(
        self, tmp_path: Path, labels: str, made: dict[str, Predictions], long: bool
    ) -> None:
        table = wide(made["c0"])
        if long:
            table = table.melt("id", var_name="class", value_name="probability")
        table.to_csv(tmp_path / "c0.csv")  # with its index, under no name
        same(
            gather([str(tmp_path / "c0.csv")], GatherOptions(labels=labels)),
            {"c0": made["c0"]},
            atol=1e-6,
        )

    def test_the_ids_of_an_array_may_have_an_index_too(
        self, tmp_path: Path, labels: str, made: dict[str, Predictions]
    ) -> None:
        np.save(tmp_path / "c0.npy", made["c0"].proba)
        pd.DataFrame({"key": made["c0"].ids}).to_csv(tmp_path / "c0.csv")
        same(gather([str(tmp_path / "c0.npy")], GatherOptions(labels=labels)), {"c0": made["c0"]})


class TestWhereFoldsCameFrom:
    def test_the_run_of_the_folds_is_told_wherever_it_stands_among_the_sources(
        self, tmp_path: Path, labels: str, made: dict[str, Predictions]
    ) -> None:
        run = write_run(tmp_path / "run", {"c0": made["c0"]})
        wide(made["c1"]).to_csv(tmp_path / "c1.csv", index=False)
        sources = [str(run), str(tmp_path / "c1.csv")]
        for order in (sources, sources[::-1]):
            got = gather(order)
            assert got.folds_of == str(run)
            np.testing.assert_array_equal(got.run_folds[str(run)], made["c0"].folds)
        given = gather(sources, GatherOptions(labels=labels))
        assert given.folds_of is None
        assert list(given.run_folds) == [str(run)]

    def test_labels_without_folds_leave_them_to_the_run(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        run = write_run(tmp_path / "run", {"c0": made["c0"]})
        label_frame(made["c0"], folds=False).to_csv(tmp_path / "y.csv", index=False)
        got = gather([str(run)], GatherOptions(labels=str(tmp_path / "y.csv")))
        assert got.folds_of == str(run)

    def test_configurations_of_runs_come_along(
        self, tmp_path: Path, made: dict[str, Predictions]
    ) -> None:
        run = write_run(tmp_path / "run", {"c0": made["c0"]})
        about = StoreMetadata(CLASSES, "c0", {"train": {"keep": "best"}}, {}, "f00d")
        part = made["c0"].take(np.flatnonzero(made["c0"].folds == 0))
        write_predictions(OofStore(Location.of(run)).fold_location("oof", "c0", 0), part, about)
        wide(made["c1"]).to_csv(tmp_path / "c1.csv", index=False)
        got = gather([str(run), str(tmp_path / "c1.csv")])
        assert got.configurations == {"c0": {"train": {"keep": "best"}}}
