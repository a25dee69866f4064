"""The analysis of a run's ensemble: tables over out-of-fold predictions, written beside the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from ensemble.analysis.inputs import Analysed, ReadMember
from ensemble.analysis.tables import DUPLICATES, FOLDER, analyse, as_table, write_analysis
from ensemble.blend_value import Blend
from ensemble.predictions import Predictions
from ensemble.run import BLEND_OOF_FILE
from ensemble.store import OofStore, read_predictions
from trainables.errors import DataError
from trainables.near_duplicates import near_duplicates
from trainables.run_data import load_run_data
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
            f"run `foldblend blend {root}` with this version and a method that reads probabilities"
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
    """Pairs of nearly equal images, those with different labels first. None where the images are
    not on this machine."""
    if say is not None:
        say("analysis: near-duplicate images")
    try:
        data = load_run_data(str(stored.directory.root))
    except (DataError, OSError):
        return None  # the run was copied here without its images
    found = near_duplicates(data.cache, data.folds.labels, max_pairs=MAX_PAIRS)
    ids = np.array(data.folds.ids, dtype=object)
    names = np.array(data.folds.classes, dtype=object)[data.folds.labels]
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
