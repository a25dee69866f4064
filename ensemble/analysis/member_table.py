"""Every member by itself: its scores, and what only it knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble.analysis.decisions import Decisions
from ensemble.analysis.inputs import Analysed, Columns
from ensemble.analysis.per_class import class_counts
from ensemble.analysis.reliability_table import reliability_of
from ensemble.metrics import confusion_f1, row_log_loss


def members(given: Analysed, decisions: Decisions) -> Columns:
    """One row per member, in their order.

    log_loss, accuracy, macro_f1, ece  of its own out-of-fold probabilities
    only_right     share of rows that it gets right and no other member does
    decided_alone  share of rows that the blend decides as it does and as no other member with a
                   weight does; 0 for a member without weight
    """
    every = [decisions.member(index) for index in range(given.n_members)]
    counts = [class_counts(given.labels, of.decided, given.n_classes) for of in every]
    right = decisions.decided == given.labels
    used = np.asarray(given.weights) > 0
    followed = (decisions.decided == decisions.blend.decided) & used[:, None]
    return {
        "name": np.array(given.names, dtype=object),
        "weight": np.asarray(given.weights, dtype=np.float64),
        "log_loss": [float(row_log_loss(of.p_true).mean()) for of in every],
        "accuracy": right.mean(axis=1),
        "macro_f1": [confusion_f1(of.true, of.predicted, of.correct) for of in counts],
        "ece": [reliability_of(given.labels, of).ece for of in every],
        "only_right": _alone(right),
        "decided_alone": _alone(followed),
    }


def _alone(holds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(M, N) to (M,): the share of rows in which it holds for this member and for no other."""
    lonely = np.count_nonzero(holds, axis=0) == 1
    return np.asarray((holds & lonely).mean(axis=1))
