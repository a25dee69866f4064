"""Blend what a run directory holds, finished or still growing, and write what came of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ensemble.analysis.decisions import model_rows
from ensemble.analysis.inputs import BLEND as BLEND_NAME
from ensemble.analysis.reliability_table import reliability_columns
from ensemble.analysis.tables import BEFORE_CALIBRATION, FOLDER, as_table, write_analysis
from ensemble.blend import Blend, BlendSettings, Fitted, Progress, fit_library, write_blend
from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.library import Library, read_library
from ensemble.methods import TRUE_CLASS_METHODS, by_simplicity
from ensemble.metrics import get_metric
from ensemble.predictions import Predictions
from ensemble.rules import Rules
from ensemble.store import OofStore, StoreMetadata, read_predictions, write_predictions
from ensemble.true_class import read_true_class

FOLDS_FILE = "folds.parquet"
BLEND_FILE = "blend.json"
BLEND_OOF_FILE = "blend_oof.parquet"


@dataclass(frozen=True, eq=False)
class FoldTable:
    """What `folds.parquet` fixes for every training row: ids, labels and folds (N,), and the group
    (N,), None where a row has none."""

    ids: NDArray[np.object_]
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]
    groups: NDArray[np.object_]


def read_fold_table(location: Location) -> FoldTable:
    """Read `folds.parquet` (columns id, label, group, fold). Raises BlendError naming the file."""
    data = location.read_bytes()
    try:
        table = pq.read_table(pa.BufferReader(data), columns=["id", "label", "group", "fold"])
        missing = [n for n in ("id", "label", "group", "fold") if n not in table.column_names]
        if missing:
            raise BlendError(f"expected the column {missing[0]!r}")
        return FoldTable(
            np.array(table["id"].to_pylist(), dtype=object),
            np.array(table["label"].to_pylist(), dtype=np.int64),
            np.array(table["fold"].to_pylist(), dtype=np.int64),
            np.array(table["group"].to_pylist(), dtype=object),
        )
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise BlendError(f"{location}: not a table of folds: {error}") from error


def blend_run(
    run: Location,
    settings: BlendSettings,
    *,
    n_folds: int,
    config_ids: Sequence[str] | None = None,
    rules: Rules | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Fit a blend of the complete members of `run`, and write it to `run`/blend.json and its
    nested predictions to `run`/blend_oof.parquet.

    May run beside a search: only configurations of which all `n_folds` folds are stored count.
    `config_ids` names the members to use instead of all. Raises BlendError when none is complete,
    a named one is not, or stored rows contradict `folds.parquet`.
    """
    say = progress or (lambda text: None)
    store = OofStore(run)
    names = _members(store, n_folds, config_ids)
    table = read_fold_table(run / FOLDS_FILE)
    metadata = {name: store.metadata(name) for name in names}
    classes, fingerprint = _common(metadata)
    groups = table.groups if any(group is not None for group in table.groups) else None
    if rules is None and needs_only_true_class(settings):
        say(f"reading the true class's probabilities of {len(names)} members")
        library = _true_class_library(store, names, classes, table, groups)
    else:
        library = read_library(
            names,
            _Reader(store, table, len(names), say),
            classes,
            groups=groups,
            memory_bytes=settings.memory_bytes,
        )
    fitted = fit_library(library, settings, rules=rules, progress=progress)
    fitted = replace(fitted, blend=replace(fitted.blend, data_fingerprint=fingerprint))
    write_fitted(run, fitted)
    return fitted


def write_fitted(folder: Location, fitted: Fitted) -> None:
    """`blend.json` and, where whole probabilities are known, `blend_oof.parquet`. Where they are
    not, those of an earlier blend and its analysis go away: they would be taken for this one's."""
    predictions = fitted.nested_predictions()
    if predictions is None:
        (folder / BLEND_OOF_FILE).delete()
        (folder / FOLDER).delete()
    else:
        blend = fitted.blend
        metrics = dict(blend.metrics["blend"])
        metadata = StoreMetadata(
            blend.classes, BLEND_NAME, {}, metrics, blend.data_fingerprint or ""
        )
        write_predictions(folder / BLEND_OOF_FILE, predictions, metadata)
        write_analysis(folder / FOLDER, {BEFORE_CALIBRATION: _before_calibration(fitted)})
    write_blend(folder / BLEND_FILE, fitted.blend)


def read_nested(folder: Location, blend: Blend) -> Predictions | None:
    """The nested predictions of `blend`, which `folder` holds beside it; None where there are none
    or another blend's, as after a kill between writing the two files. Raises BlendError naming a
    file that is damaged."""
    try:
        predictions, about = read_predictions(folder / BLEND_OOF_FILE)
    except FileNotFoundError:
        return None
    scored = dict(about.metrics) == dict(blend.metrics.get("blend", {}))
    return predictions if scored and about.classes == blend.classes else None


def _before_calibration(fitted: Fitted) -> pa.Table:
    proba = fitted.before_calibration.proba
    assert proba is not None  # kept wherever the blend's own are
    labels = fitted.library.labels
    columns = reliability_columns(labels, [model_rows(BLEND_NAME, proba, labels)])
    return as_table(BEFORE_CALIBRATION, columns)


def needs_only_true_class(settings: BlendSettings) -> bool:
    """Whether one number a row and member is enough: log loss, weights of means, no calibration."""
    return (
        get_metric(settings.metric).from_true_class is not None
        and not settings.calibrate
        and settings.calibrate_blend == "none"
        and not settings.groups
        and set(by_simplicity(settings.methods)) <= set(TRUE_CLASS_METHODS)
    )


def _true_class_library(
    store: OofStore,
    names: Sequence[str],
    classes: tuple[str, ...],
    table: FoldTable,
    groups: NDArray[np.object_] | None,
) -> Library:
    ordered = tuple(sorted(names))
    labels, folds = table.labels.astype(np.int32), table.folds.astype(np.int16)
    p_true = read_true_class(store, ordered, table.ids, labels, folds)
    return Library(ordered, classes, table.ids, labels, folds, p_true, groups=groups)


@dataclass(frozen=True)
class _Reader:
    """Reads one member after the other, checked against the run's own fold table."""

    store: OofStore
    table: FoldTable
    total: int
    say: Progress
    count: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __call__(self, name: str) -> Predictions:
        self.say(f"reading member {next(self.count)} of {self.total}: {name}")
        return _checked(name, self.store.read_member(name, self.table.ids.tolist()), self.table)


def _members(store: OofStore, n_folds: int, config_ids: Sequence[str] | None) -> list[str]:
    if config_ids is None:
        complete = store.complete_members(n_folds)
        if complete:
            return complete
        counts = {name: len(store.folds("oof", name)) for name in store.config_ids()}
        if not counts:
            raise BlendError(f"no complete member yet: {store.run / 'oof'} holds no predictions")
        furthest = max(counts, key=counts.__getitem__)
        raise BlendError(
            f"no complete member yet: of {len(counts)} configurations in {store.run / 'oof'} "
            f"{furthest} is furthest with {counts[furthest]} of {n_folds} folds"
        )
    if not config_ids:
        raise BlendError("expected at least one configuration to blend, got none")
    for name in config_ids:
        _check_complete(store, name, n_folds)
    return sorted(set(config_ids))


def _check_complete(store: OofStore, name: str, n_folds: int) -> None:
    stored = store.folds("oof", name)
    missing = sorted(set(range(n_folds)) - set(stored))
    if not missing:
        return
    if stored:
        raise BlendError(f"configuration {name}: folds {missing} of {n_folds} are not stored yet")
    nearest = get_close_matches(name, store.config_ids(), n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise BlendError(f"{store.run / 'oof'}: no configuration {name!r}{hint}")


def _common(metadata: Mapping[str, StoreMetadata]) -> tuple[tuple[str, ...], str]:
    """The class names and data fingerprint that all members share."""
    first_name, first = next(iter(metadata.items()))
    for name, other in metadata.items():
        if other.classes != first.classes:
            raise BlendError(f"configurations {first_name} and {name} have different classes")
        if other.data_fingerprint != first.data_fingerprint:
            raise BlendError(
                f"configurations {first_name} and {name} were trained on different data "
                f"({first.data_fingerprint} and {other.data_fingerprint})"
            )
    return first.classes, first.data_fingerprint


def _checked(name: str, member: Predictions, table: FoldTable) -> Predictions:
    for word, mine, fixed in (
        ("label", member.labels, table.labels),
        ("fold", member.folds, table.folds),
    ):
        wrong = np.flatnonzero(mine != fixed)
        if len(wrong):
            row = wrong[0]
            raise BlendError(
                f"configuration {name}, id {member.ids[row]!r}: expected {word} {fixed[row]} as "
                f"in {FOLDS_FILE}, got {mine[row]}"
            )
    return member
