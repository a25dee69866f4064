"""Which member is best at which class, and whether the blend leaves anything of it on the table."""

from __future__ import annotations

import numpy as np

from ensemble.analysis.decisions import Decisions
from ensemble.analysis.inputs import Analysed, Columns
from ensemble.analysis.per_class import class_counts


def best_member(given: Analysed, decisions: Decisions) -> Columns:
    """One row per class that has rows: the member with the highest F1 on it; of equals the one
    with the higher weight, then the first by name. `gain`: its F1 minus the blend's.

    The best of M members on the few rows of one class is best by luck too: a gain of a row or two
    says nothing about new images.
    """
    rows = np.bincount(given.labels, minlength=given.n_classes)
    present = np.flatnonzero(rows)
    by_name = sorted(range(given.n_members), key=lambda i: (-given.weights[i], given.names[i]))
    best = np.full(given.n_classes, -1)
    f1 = np.full(given.n_classes, -1.0)
    recall = np.zeros(given.n_classes)
    for index in by_name:
        counts = class_counts(given.labels, decisions.decided[index], given.n_classes)
        better = counts.f1 > f1  # strictly: the earlier one keeps a tie
        best[better] = index
        f1[better], recall[better] = counts.f1[better], counts.recall[better]
    blend = class_counts(given.labels, decisions.blend.decided, given.n_classes)
    return {
        "class": given.class_names(present),
        "member": np.array(given.names, dtype=object)[best[present]],
        "recall": recall[present],
        "blend_recall": blend.recall[present],
        "f1": f1[present],
        "blend_f1": blend.f1[present],
        "gain": (f1 - blend.f1)[present],
    }
