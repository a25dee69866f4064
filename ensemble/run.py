"""Blend what a run directory holds, finished or still growing, and write its `blend.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ensemble.blend import Blend, BlendSettings, Progress, fit_blend, write_blend
from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.store import OofStore, StoreMetadata

FOLDS_FILE = "folds.parquet"
BLEND_FILE = "blend.json"


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
    progress: Progress | None = None,
) -> Blend:
    """Fit a blend of the complete members of `run` and write it to `run`/blend.json.

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
    members = {}
    for number, name in enumerate(names, start=1):
        say(f"reading member {number} of {len(names)}: {name}")
        members[name] = _checked(name, store.read_member(name, table.ids.tolist()), table)
    groups = table.groups if any(group is not None for group in table.groups) else None
    blend = fit_blend(members, classes, settings, groups=groups, progress=progress)
    blend = replace(blend, data_fingerprint=fingerprint)
    write_blend(run / BLEND_FILE, blend)
    return blend


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
