from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.analysis.decisions import decisions_of, model_rows
from ensemble.analysis.reliability_table import (
    BINS,
    reliability,
    reliability_of,
)
from ensemble.analysis.tables import as_table
from ensemble.metrics import get_metric
from tests.ensemble.analysis.made import analysed, decided, plausible, sure_of


def test_bins_by_hand() -> None:
    blend = np.concatenate([sure_of([0, 0], 2, 0.9), sure_of([0], 2, 0.55), sure_of([1], 2, 1.0)])
    given = analysed([0, 1, 0, 1], {"m": blend}, blend)
    table = as_table("reliability", reliability(given, decisions_of(given)))
    rows = [row for row in table.to_pylist() if row["model"] == "blend"]
    assert [row["bin"] for row in rows] == list(range(15))
    assert (rows[0]["low"], rows[-1]["high"]) == (0.0, 1.0)
    assert [row["low"] for row in rows[1:]] == [row["high"] for row in rows[:-1]]
    filled = [row for row in rows if row["rows"]]
    assert [(row["bin"], row["rows"], row["accuracy"]) for row in filled] == [
        (8, 1, 1.0),  # 0.55 of (8/15, 9/15]
        (13, 2, 0.5),  # 0.9 of (13/15, 14/15]
        (14, 1, 1.0),
    ]
    assert [row["confidence"] for row in filled] == pytest.approx([0.55, 0.9, 1.0])
    assert {(row["confidence"], row["accuracy"]) for row in rows if not row["rows"]} == {
        (None, None)
    }


def test_the_blend_members_with_weight_and_the_best_single_one_are_shown() -> None:
    votes = {name: [0, 1] for name in "abcd"}
    given, decisions = decided([0, 1], votes, [0, 1], weights=[0.0, 0.4, 0.0, 0.6])
    table = as_table("reliability", reliability(given, decisions))
    assert given.best_single == "a"
    assert table["model"].to_pylist()[::BINS] == ["blend", "a", "b", "d"]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_calibration_error_is_the_metric_of_that_name(seed: int) -> None:
    made = plausible(seed)
    of = reliability_of(made.labels, model_rows("blend", made.blend, made.labels))
    wanted = get_metric("ece")(made.labels, made.blend)
    assert of.ece == pytest.approx(wanted, abs=1e-12)
    assert of.count.sum() == made.n_rows
