"""A foldblend run directory as a source: its complete members."""

from __future__ import annotations

import numpy as np

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.sources.label_table import FOLDS_FILE, LabelTable
from ensemble.sources.raw import RawPredictions
from ensemble.store import OofStore


def is_run(where: Location) -> bool:
    """Whether it is a run directory: `folds.parquet` and `oof/`."""
    return (where / FOLDS_FILE).exists() and (where / "oof").is_dir()


def complete_members(where: Location, table: LabelTable) -> tuple[list[str], list[str]]:
    """The configurations of which every fold of `folds.parquet` is stored, and a note about those
    that are not complete. Raises BlendError where none is."""
    if table.folds is None:
        raise BlendError(f"{table.where}: no fold column")
    store = OofStore(where)
    wanted = set(table.folds.tolist())
    stored = {name: wanted & set(store.folds("oof", name)) for name in store.config_ids()}
    complete = [name for name, folds in stored.items() if folds == wanted]
    if not complete:
        furthest = max((len(folds) for folds in stored.values()), default=0)
        raise BlendError(
            f"{where}: no complete member: of {len(stored)} configurations the furthest has "
            f"{furthest} of {len(wanted)} folds"
        )
    partial = len(stored) - len(complete)
    note = f"{where}: {partial} of {len(stored)} configurations lack folds: left out"
    return complete, [note] if partial else []


def read_member(
    where: Location, name: str, table: LabelTable, *, exact: bool = True
) -> RawPredictions:
    """All rows of a member. Raises BlendError where stored labels or folds contradict
    `folds.parquet` (a row of another fold was seen in training). `exact`: see RawPredictions."""
    store = OofStore(where)
    member = store.read_member(name)
    about = store.metadata(name)
    classes = about.classes
    if table.classes is not None and table.classes != classes:
        raise BlendError(f"{where / 'oof'}: {name} has other classes than {table.where}")
    _check_folds(where, name, member, table)
    names = np.array([*classes, ""], dtype=object)  # an unknown label (-1) is the last
    stored = LabelTable(
        f"{where} {name}", member.ids, names[member.labels], member.folds.astype(np.int64)
    )
    return RawPredictions(
        f"{where} {name}",
        member.ids,
        member.proba,
        classes,
        stored,
        exact=exact,
        configuration=about.configuration,
    )


def read_tests(where: Location, name: str) -> list[RawPredictions]:
    """The test predictions of every fold's model; [] where there are none."""
    store = OofStore(where)
    if not store.folds("test", name):
        return []
    classes = store.metadata(name).classes
    return [
        RawPredictions(f"{where} {name}", part.ids, part.proba, classes)
        for part in store.read_test(name)
    ]


def _check_folds(where: Location, name: str, member: Predictions, table: LabelTable) -> None:
    fold_of = dict(zip(table.ids, table.folds if table.folds is not None else (), strict=False))
    for id_, fold in zip(member.ids, member.folds.tolist(), strict=True):
        if id_ in fold_of and fold_of[id_] != fold:
            raise BlendError(
                f"{where} {name}, id {id_!r}: expected fold {fold_of[id_]} as in {FOLDS_FILE}, "
                f"got {fold}"
            )
