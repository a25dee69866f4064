"""Libraries made for tests, and the same ones with other labels or fewer columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.fitting import FitSettings, Fitter
from ensemble.library import Library
from ensemble.metrics import get_metric
from ensemble.nested import held_out_sets
from ensemble.rules import Rules
from tests.ensemble.made import member_probabilities

GROUP_ROWS = 4
NAMES = ("cat", "dog", "élan", "fox", "gnu")


def made_library(
    seed: int = 0,
    members: int = 3,
    rows: int = 60,
    classes: int = 3,
    *,
    folds: int = 3,
    weighted: bool = False,
    grouped: bool = False,
) -> Library:
    """Members of shared and own errors; groups of four rows lie in one fold, some rows have none;
    some row weights are 0."""
    rng = np.random.default_rng(seed + 1000)
    probs, labels, _ = member_probabilities(seed, members, rows, classes)
    unit = np.arange(rows) // (GROUP_ROWS if grouped else 1)
    of_unit = rng.permutation(np.arange(unit[-1] + 1) % folds)
    groups = np.array([f"patient {u}" if u % 5 else None for u in unit], dtype=object)
    weights = np.where(rng.random(rows) < 0.1, 0.0, rng.uniform(0.5, 3.0, size=rows))
    return Library(
        names=tuple(f"c{i}" for i in range(members)),
        classes=NAMES[:classes],
        ids=np.array([f"image {row}.jpg" for row in range(rows)], dtype=object),
        labels=labels.astype(np.int32),
        folds=of_unit[unit].astype(np.int16),
        p_true=true_class_of(probs, labels),
        probs=probs,
        groups=groups if grouped else None,
        row_weights=weights if weighted else None,
    )


def true_class_of(probs: np.ndarray, labels: np.ndarray) -> NDArray[np.float32]:
    return np.ascontiguousarray(probs[:, np.arange(len(labels)), labels], dtype=np.float32)


def relabelled(library: Library, labels: np.ndarray) -> Library:
    """The same members, were these the true labels."""
    assert library.probs is not None
    p_true = true_class_of(library.probs, labels)
    return replace(library, labels=labels.astype(np.int32), p_true=p_true)


def with_fold_permuted(library: Library, fold: int, seed: int = 0) -> Library:
    """Every row of that fold has another label than its own, and no other row has."""
    classes, rng = library.n_classes, np.random.default_rng(seed)
    shift = rng.integers(1, classes, size=library.n_rows)
    other = (library.labels + shift) % classes
    return relabelled(library, np.where(library.folds == fold, other, library.labels))


def true_class_only(library: Library) -> Library:
    return replace(library, probs=None)


def fitter_of(
    library: Library, *methods: str, metric: str = "log_loss", **options: object
) -> Fitter:
    settings = FitSettings(get_metric(metric), methods, **options)  # type: ignore[arg-type]
    return Fitter(library, settings, held_out_sets(library.fold_names, choosing=True))


def overrides(library: Library, right: float, share: float = 0.5, seed: int = 0) -> Rules:
    """A rule for that `share` of the rows, pointing to the true class in `right` of them."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(rng.random(library.n_rows) < share)
    if not len(rows):
        raise BlendError("expected a rule for at least one row: make more rows")
    hit = rng.random(len(rows)) < right
    aims = np.where(hit, library.labels[rows], (library.labels[rows] + 1) % library.n_classes)
    targets = np.eye(library.n_classes)[aims]
    everywhere = np.ones_like(targets, dtype=bool)
    strength = np.ones(len(rows))
    return Rules("made.csv", library.ids[rows], targets, everywhere, strength, fixed=False)
