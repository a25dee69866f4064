"""Reading the true class's probabilities from the OOF store, as a log-loss blend does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import numpy as np
from blending_measure import Measured, repeated

from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.store import OofStore, StoreMetadata, write_predictions
from ensemble.true_class import read_true_class

MEMBERS = 12  # at most so many are written: their whole probabilities take up to 60 MB each
FOLDS = 5


def seconds_per_file(probs: np.ndarray, labels: np.ndarray) -> tuple[int, Measured[np.ndarray]]:
    """The number of files (members times folds) written from `probs` (M, N, C), and the reading of
    all of them. They were just written, so the disk is not measured."""
    probs = probs[:MEMBERS]
    names = [f"c{number:03d}" for number in range(len(probs))]
    ids = np.array([f"image_{row:06d}.jpg" for row in range(len(labels))], dtype=object)
    folds = np.arange(len(labels)) % FOLDS
    with tempfile.TemporaryDirectory() as folder:
        store = OofStore(Location.of(folder))
        for name, proba in zip(names, probs, strict=True):
            _write(store, name, Predictions(ids, labels, folds, proba))
        measured = repeated(lambda: read_true_class(store, names, ids, labels, folds))
    _check(measured.result, probs, labels, names)
    return len(names) * FOLDS, measured


def _write(store: OofStore, name: str, member: Predictions) -> None:
    classes = tuple(f"class {number}" for number in range(member.n_classes))
    about = StoreMetadata(classes, name, {}, {}, "made")
    for fold in range(FOLDS):
        part = member.take(member.folds == fold)
        write_predictions(store.fold_location("oof", name, fold), part, about)


def _check(read: np.ndarray, probs: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    if not np.array_equal(read, probs[:, np.arange(len(labels)), labels]):
        raise AssertionError(f"the files of {names[0]} to {names[-1]} were read wrongly")
