"""Members from anywhere, with the same rows and classes in the same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.sources.alignment import align_member, unnamed_columns
from ensemble.sources.label_table import UNKNOWN, LabelTable, read_label_table
from ensemble.sources.options import GatherOptions
from ensemble.sources.raw import RawPredictions
from ensemble.sources.reference import (
    fold_differences,
    fold_source,
    make_reference,
    minus_one_is_class,
    row_weights,
)
from ensemble.sources.source import Source, open_source
from ensemble.sources.submissions import read_tests

__all__ = ["GatherOptions", "Gathered", "gather"]


@dataclass(frozen=True, eq=False)
class Gathered:
    """M members of N labelled rows and C classes, all checked.

    names        of the members, as given
    members      by name; all have the same ids, labels and folds, in the same order
    classes      names in the order of the probabilities
    groups       (N,) object, rows that belong together (None: alone); or None
    row_weights  (N,) float64 or None
    tests        by member, one or one a fold, rows in one order; {} where there are none
    notes        what was left out or assumed, one line each
    run_folds    by run directory, (N,) int64: its own fold of every row, -1 where it has none
    folds_of     the run directory whose folds the members have, None where they are no run's
    configurations  by member, of those from runs
    """

    names: tuple[str, ...]
    members: Mapping[str, Predictions]
    classes: tuple[str, ...]
    groups: NDArray[np.object_] | None
    row_weights: NDArray[np.float64] | None
    tests: Mapping[str, tuple[Predictions, ...]]
    notes: tuple[str, ...]
    run_folds: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    folds_of: str | None = None
    configurations: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Entry:
    name: str
    own_name: str
    source: Source


def gather(sources: Sequence[str], options: GatherOptions | None = None) -> Gathered:
    """Read every member of `sources` (runs, folders, tables, arrays; paths or URIs).

    Raises BlendError, naming the file and up to three ids, for rows that are missing or twice,
    labels that differ, numbers that are no probabilities, and files in which there are none.
    """
    options = options or GatherOptions()
    if not sources:
        raise BlendError("expected at least one run, folder or file of predictions, got none")
    opened = [open_source(Location.of(text), options) for text in sources]
    entries = _entries(opened)
    notes = [note for source in opened for note in source.notes]
    given, raws = _read(entries, opened, options)
    labels = given.settled(minus_one_is_class=minus_one_is_class(given, raws))
    reference, more = make_reference(labels, raws, options)
    notes += [*more, *fold_differences(reference, labels, raws)]
    notes += unnamed_columns(
        [r.where for r in raws.values() if r.classes is None], reference.classes
    )
    folds_of = _run_of_folds(given, raws, entries)
    configurations = {name: raw.configuration for name, raw in raws.items() if raw.configuration}
    known = labels.known()
    weights = row_weights(known)
    members: dict[str, Predictions] = {}
    for entry in entries:  # each file's own values are dropped as soon as they are aligned
        raw = raws.pop(entry.name)
        members[entry.name], said = align_member(raw, reference, normalise=options.normalise)
        notes += said
    named = {entry.name: (entry.source, entry.own_name) for entry in entries}
    tests, said = read_tests(named, reference.classes, options)
    return Gathered(
        names=tuple(members),
        members=members,
        classes=reference.classes,
        groups=known.groups,
        row_weights=weights,
        tests=tests,
        notes=tuple(dict.fromkeys([*notes, *said])),
        run_folds={str(s.where): _own_folds(s.labels, reference.ids) for s in opened if s.is_run},
        folds_of=folds_of,
        configurations=configurations,
    )


def _run_of_folds(
    labels: LabelTable, raws: Mapping[str, RawPredictions], entries: Sequence[_Entry]
) -> str | None:
    """The run directory that the folds are from."""
    table = fold_source(labels, raws)
    for entry in entries:
        own = entry.source.labels, raws[entry.name].labels
        if entry.source.is_run and table is not None and any(table is each for each in own):
            return str(entry.source.where)
    return None


def _own_folds(table: LabelTable | None, ids: NDArray[np.object_]) -> NDArray[np.int64]:
    if table is None or table.folds is None:
        return np.full(len(ids), -1)
    fold_of = dict(zip(table.ids, table.folds.tolist(), strict=True))
    return np.array([fold_of.get(name, -1) for name in ids], np.int64)


def _entries(opened: Sequence[Source]) -> list[_Entry]:
    """Names are prefixed where there are several runs, or where two members would be called the
    same."""
    several_runs = sum(source.is_run for source in opened) > 1
    own = [name for source in opened for name in source.oof]
    entries: dict[str, _Entry] = {}
    for source in opened:
        for name in source.oof:
            prefixed = (source.is_run and several_runs) or own.count(name) > 1
            full = f"{_folder_name(source)}/{name}" if prefixed else name
            if full in entries:
                raise BlendError(
                    f"{source.where}: a member {full!r} came from {entries[full].source.where} "
                    "already: rename one of them"
                )
            entries[full] = _Entry(full, name, source)
    return list(entries.values())


def _folder_name(source: Source) -> str:
    where = source.where
    return where.name if where.is_dir() else where.uri.rpartition("/")[0].rpartition("/")[2]


def _read(
    entries: Sequence[_Entry], opened: Sequence[Source], options: GatherOptions
) -> tuple[LabelTable, dict[str, RawPredictions]]:
    """The labels, and every member as it stands in its file. Arrays come last: their rows may
    be those of labels that are found in another member's file."""
    labels = next((source.labels for source in opened if source.labels is not None), None)
    if options.labels is not None:
        labels = read_label_table(Location.of(options.labels), options)
    raws: dict[str, RawPredictions] = {}
    for entry in sorted(entries, key=lambda entry: entry.source.is_array(entry.own_name)):
        names = frozenset() if labels is None else frozenset(labels.labels) - UNKNOWN
        raw = entry.source.read(entry.own_name, options, labels, names)
        raws[entry.name] = raw
        if labels is None and raw.labels is not None and set(raw.labels.labels) - UNKNOWN:
            labels = raw.labels
    if labels is None:
        raise BlendError(
            f"no labels: none of {', '.join(str(source.where) for source in opened)} has a label "
            "column; give a CSV or Parquet file with id and label"
        )
    return labels, raws
