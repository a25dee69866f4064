"""Files as other programs write them, made for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.sources.gather import Gathered
from ensemble.store import OofStore, StoreMetadata, write_predictions
from tests.ensemble.made import made_members

CLASSES = ("cat", "dog", "élan")


def members(seed: int = 0, count: int = 2, rows: int = 60) -> dict[str, Predictions]:
    return made_members(seed, members=count, rows=rows, classes=len(CLASSES))


def wide(
    member: Predictions,
    *,
    classes: tuple[str, ...] = CLASSES,
    prefix: str = "",
    labels: bool = False,
    folds: bool = False,
) -> pd.DataFrame:
    """One row an image, one column a class."""
    table = pd.DataFrame({"id": member.ids})
    if labels:
        table["label"] = [classes[label] for label in member.labels]
    if folds:
        table["fold"] = member.folds
    for column, name in enumerate(classes):
        table[f"{prefix}{name}"] = member.proba[:, column]
    return table


def label_frame(member: Predictions, *, folds: bool = True) -> pd.DataFrame:
    table = pd.DataFrame({"id": member.ids, "label": [CLASSES[i] for i in member.labels]})
    if folds:
        table["fold"] = member.folds
    return table


def write_run(
    where: Path,
    made: dict[str, Predictions],
    *,
    classes: tuple[str, ...] = CLASSES,
    groups: list[str] | None = None,
) -> Path:
    """A run directory of complete members, as the search leaves it."""
    first = next(iter(made.values()))
    columns = {
        "id": pa.array(first.ids, pa.string()),
        "path": pa.array(first.ids, pa.string()),
        "label": pa.array(first.labels, pa.int32()),
        "group": pa.array(groups or [None] * first.n_rows, pa.string()),
        "fold": pa.array(first.folds, pa.int16()),
    }
    names = '["' + '", "'.join(classes) + '"]'
    where.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns).replace_schema_metadata({"foldblend.classes": names})
    pq.write_table(table, where / "folds.parquet")
    store = OofStore(Location.of(where))
    for name, member in made.items():
        about = StoreMetadata(classes, name, {}, {}, "f00d")
        for fold in np.unique(member.folds).tolist():
            part = member.take(np.flatnonzero(member.folds == fold))
            write_predictions(store.fold_location("oof", name, fold), part, about)
    return where


def reordered(member: Predictions, order: list[int]) -> Predictions:
    """The same with its classes in another order: column i is what column order[i] was."""
    back = np.argsort(order)
    return Predictions(
        member.ids, back[member.labels].astype(np.int32), member.folds, member.proba[:, order]
    )


def same(gathered: Gathered, expected: dict[str, Predictions], atol: float = 0.0) -> None:
    assert gathered.classes == CLASSES
    assert gathered.names == tuple(expected) == tuple(gathered.members)
    for name, member in expected.items():
        got = gathered.members[name]
        aligned = member.aligned_to(got.ids)
        np.testing.assert_array_equal(got.labels, aligned.labels)
        np.testing.assert_array_equal(got.folds, aligned.folds)
        np.testing.assert_allclose(got.proba, aligned.proba, atol=atol)
