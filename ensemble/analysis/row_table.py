"""Every row with what the blend says about it, for people to filter by themselves."""

from __future__ import annotations

import numpy as np

from ensemble.analysis.decisions import Decisions
from ensemble.analysis.inputs import Analysed, Columns


def rows(given: Analysed, decisions: Decisions) -> Columns:
    """One row per image, in the order given."""
    blend = decisions.blend
    return {
        "id": given.ids,
        "label": given.class_names(given.labels),
        "fold": given.folds,
        "blend_class": given.class_names(blend.decided),
        "p_label": blend.p_true.astype(np.float64),
        "p_blend_class": blend.confidence.astype(np.float64),
        "correct": blend.decided == given.labels,
        "members_right": np.count_nonzero(decisions.decided == given.labels, axis=0),
    }
