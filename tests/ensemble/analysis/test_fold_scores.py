from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.analysis.decisions import decisions_of
from ensemble.analysis.fold_scores import fold_scores
from ensemble.analysis.tables import as_table
from ensemble.metrics import METRICS
from tests.ensemble.analysis.made import decided, plausible


def test_folds_by_hand() -> None:
    made = decided([0, 0, 1], {"m": [0, 0, 1]}, blend=[0, 1, 1], folds=[3, 3, 1])
    rows = as_table("fold_scores", fold_scores(*made)).to_pylist()
    assert [(row["model"], row["fold"], row["rows"], row["accuracy"]) for row in rows] == [
        ("blend", 1, 1, 1.0),
        ("blend", 3, 2, 0.5),
        ("m", 1, 1, 1.0),
        ("m", 3, 2, 1.0),
    ]
    assert rows[1]["log_loss"] == pytest.approx(-(np.log(0.7) + np.log(0.15)) / 2, rel=1e-6)
    assert rows[1]["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_scores_equal_the_metrics_on_the_rows_of_the_fold(seed: int) -> None:
    made = plausible(seed)
    for row in as_table("fold_scores", fold_scores(made, decisions_of(made))).to_pylist():
        proba = made.blend if row["model"] == "blend" else made.read(row["model"])
        where = made.folds == row["fold"]
        assert row["rows"] == where.sum()
        for name, metric in METRICS.items():
            assert row[name] == pytest.approx(metric(made.labels[where], proba[where])), name
