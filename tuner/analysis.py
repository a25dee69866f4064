"""The analysis of a run's ensemble: tables over out-of-fold predictions, written beside the run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from ensemble.analysis.inputs import Analysed, ReadMember
from ensemble.analysis.tables import DUPLICATES, FOLDER, analyse, as_table, write_analysis
from ensemble.blend_value import Blend
from ensemble.predictions import Predictions
from ensemble.run import BLEND_OOF_FILE
from ensemble.store import OofStore, read_predictions
from trainables.decoded_already import images_decoded_already
from trainables.errors import DataError
from trainables.near_duplicates import near_duplicates
from tuner.errors import UserError
from tuner.replayed import StoredRun

Say = Callable[[str], None]
MAX_PAIRS = 1000  # of near-duplicates in the table


def analyse_run(stored: StoredRun, blend: Blend, say: Say | None = None) -> Mapping[str, pa.Table]:
    """Make and write every table of a run's blend. UserError where the blend was made without
    whole probabilities, by another program, or before this version."""
    root = stored.directory.root
    if not (root / BLEND_OOF_FILE).exists():
        raise UserError(
            f"{root / BLEND_OOF_FILE}: not there, so there is nothing to analyse; "
            f"run `foldblend blend {shlex.quote(str(root))}` with this version and a method that "
            "reads probabilities"
        )
    predictions, _ = read_predictions(root / BLEND_OOF_FILE)
    store, ids = OofStore(root), predictions.ids.tolist()
    given = analysed(blend, predictions, lambda name: store.read_member(name, ids).proba)
    tables = dict(analyse(given, progress=say))
    duplicates = _duplicates(stored, say)
    if duplicates is not None:
        tables[DUPLICATES] = duplicates
    write_analysis(root / FOLDER, tables)
    return tables


def analysed(blend: Blend, nested: Predictions, read: ReadMember) -> Analysed:
    """What the analysis looks at: the blend's nested predictions, and its members by `read`."""
    return Analysed(
        ids=nested.ids,
        labels=nested.labels,
        folds=nested.folds,
        classes=blend.classes,
        names=tuple(member.config_id for member in blend.members),
        members=read,
        weights=np.array([member.weight for member in blend.members]),
        blend=nested.proba,
        best_single=blend.nested.best_single.config_id,
    )


def _duplicates(stored: StoredRun, say: Say | None) -> pa.Table | None:
    """Pairs of nearly equal images, those with different labels first. None where this machine has
    not decoded the images: a report is not worth fetching all of them."""
    if say is not None:
        say("analysis: near-duplicate images")
    try:
        decoded = images_decoded_already(stored.directory)
    except (DataError, OSError):
        return None  # the run's tables or this machine's cache cannot be read
    if decoded is None:
        return None
    folds, cache = decoded
    found = near_duplicates(cache, folds.labels, max_pairs=MAX_PAIRS)
    ids = np.array(folds.ids, dtype=object)
    names = np.array(folds.classes, dtype=object)[folds.labels]
    a, b = found.pair_a, found.pair_b
    return as_table(
        DUPLICATES,
        {
            "id_a": ids[a],
            "id_b": ids[b],
            "label_a": names[a],
            "label_b": names[b],
            "distance": found.distance,
            "same_label": found.same_label,
        },
    )
