"""The rows, classes and folds that every member is matched to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.sources.alignment import Reference, class_indices
from ensemble.sources.columns import are_whole_numbers, by_size, shown
from ensemble.sources.label_table import MINUS_ONE, LabelTable
from ensemble.sources.new_folds import make_folds
from ensemble.sources.options import GatherOptions
from ensemble.sources.raw import RawPredictions


def make_reference(
    labels: LabelTable, raws: Mapping[str, RawPredictions], options: GatherOptions
) -> tuple[Reference, list[str]]:
    """The labelled rows of `labels`, in its order; classes and folds from it or from the first of
    `raws` that says so; and notes about what was assumed. Raises BlendError where the labels do
    not fit the classes or the folds do not cover the rows."""
    known = labels.known()
    if not len(known.ids):
        raise BlendError(f"{labels.where}: expected labels, got none in {len(labels.ids)} rows")
    notes = []
    without = len(labels.ids) - len(known.ids)
    if without:
        notes.append(f"{labels.where}: {without} rows have no label: left out")
    classes = _classes(known, raws)
    indices = class_indices(known.labels, classes, known.where, known.ids)
    if set(known.labels) - set(classes):
        notes.append(f"{labels.where}: labels are numbers, read as positions in {shown(classes)}")
    folds, note = _folds(known, raws, indices, options)
    notes += [note] if note else []
    notes += _split_groups(known.groups, folds)
    return Reference(labels.where, classes, known.ids, indices, folds), notes


def _split_groups(groups: NDArray[np.object_] | None, folds: NDArray[np.int16]) -> list[str]:
    """A note where rows of one group are held out in different folds: each helps to predict the
    others, as near-copies in training and test do."""
    if groups is None:
        return []
    folds_of: dict[object, set[int]] = {}
    for group, fold in zip(groups, folds.tolist(), strict=True):
        if group is not None:
            folds_of.setdefault(group, set()).add(fold)
    split = [group for group, held_out in folds_of.items() if len(held_out) > 1]
    if not split:
        return []
    return [
        f"{len(split)} of {len(folds_of)} groups lie in several folds (first {split[0]!r}): the "
        "nested score flatters, as rows of a group help to predict each other"
    ]


def fold_differences(
    reference: Reference, labels: LabelTable, raws: Mapping[str, RawPredictions]
) -> list[str]:
    """A note for every file whose own folds are not those that scores are computed on."""
    source = fold_source(labels.known(), raws)
    notes = []
    for raw in raws.values():
        own = raw.labels
        if source is None or own is None or own.folds is None or own is source:
            continue
        fold_of = dict(zip(own.ids, own.folds.tolist(), strict=True))
        pairs = {
            (fold_of[name], fold)
            for name, fold in zip(reference.ids, reference.folds.tolist(), strict=True)
            if name in fold_of
        }
        # Other numbers for the same parts are no difference.
        if len({a for a, _ in pairs}) < len(pairs) or len({b for _, b in pairs}) < len(pairs):
            notes.append(
                f"folds differ between {source.where} and {own.where}: scored on the folds of "
                f"{source.where}"
            )
    return notes


def row_weights(labels: LabelTable) -> NDArray[np.float64] | None:
    """(N,) float64, or None. Raises BlendError, with the id, unless finite and at least 0, and not
    all 0."""
    weights = labels.weights
    if weights is None:
        return None
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise BlendError(
            f"{labels.where}, id {labels.ids[wrong[0]]!r}: expected a weight of at least 0, got "
            f"{weights[wrong[0]]}"
        )
    if not weights.sum() > 0:
        raise BlendError(f"{labels.where}: expected a weight above 0 in some row, got none")
    return weights


def minus_one_is_class(labels: LabelTable, raws: Mapping[str, RawPredictions]) -> bool:
    """Whether the label -1 is a class: a column is called so, or no column has a name and there are
    as many columns as labels with it. It says that nothing is known otherwise."""
    named = [set(raw.classes) for raw in raws.values() if raw.classes is not None]
    if named or not raws:
        return any(MINUS_ONE in classes for classes in named)
    found = set(labels.labels) - {""}
    return MINUS_ONE in found and next(iter(raws.values())).values.shape[1] == len(found)


def _classes(known: LabelTable, raws: Mapping[str, RawPredictions]) -> tuple[str, ...]:
    """In order; whole numbers by size, as labels that are names cannot lose their column by it."""
    named = known.classes or next((r.classes for r in raws.values() if r.classes is not None), None)
    if named is not None:
        by_name = set(known.labels) <= set(named)
        return by_size(named) if by_name and are_whole_numbers(named) else named
    first = next(iter(raws.values()))
    width = first.values.shape[1]
    numbers = tuple(str(index) for index in range(width))
    found = set(known.labels)
    if found <= set(numbers):
        return numbers
    ordered = by_size(found)
    if len(ordered) != width:
        raise BlendError(
            f"{first.where}: expected a column for each of the {len(ordered)} classes of "
            f"{known.where} ({shown(ordered, 3)}), got {width} numbered columns; name the columns "
            "by the classes"
        )
    return ordered


def fold_source(known: LabelTable, raws: Mapping[str, RawPredictions]) -> LabelTable | None:
    """The table whose folds are taken: the labels', or the first of a file that has some."""
    if known.folds is not None:
        return known
    own = (raw.labels for raw in raws.values() if raw.labels is not None)
    return next((table for table in own if table.folds is not None), None)


def _folds(
    known: LabelTable,
    raws: Mapping[str, RawPredictions],
    labels: NDArray[np.int32],
    options: GatherOptions,
) -> tuple[NDArray[np.int16], str]:
    source = fold_source(known, raws)
    if source is None or source.folds is None:
        made = make_folds(labels, known.groups, folds=options.folds, seed=options.seed)
        kind = "stratified" if known.groups is None else "stratified and grouped"
        return made, (
            f"no folds given: {options.folds} {kind} folds made here (seed {options.seed})"
        )
    fold_of = dict(zip(source.ids, source.folds.tolist(), strict=True))
    missing = [name for name in known.ids if name not in fold_of]
    if missing:
        raise BlendError(
            f"{source.where}: expected a fold for every labelled row, got none for "
            f"{len(missing)} ({shown(missing, 3)})"
        )
    numbers = np.array([fold_of[name] for name in known.ids])
    beyond = np.flatnonzero((numbers < 0) | (numbers > np.iinfo(np.int16).max))
    if len(beyond):
        row = beyond[0]
        raise BlendError(
            f"{source.where}, id {known.ids[row]!r}: expected a fold of at least 0, got "
            f"{numbers[row]}"
        )
    note = "" if source is known else f"folds are those of {source.where}"
    return numbers.astype(np.int16), note
