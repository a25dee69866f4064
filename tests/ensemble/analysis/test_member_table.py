from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.analysis.decisions import decisions_of
from ensemble.analysis.member_table import members
from ensemble.analysis.tables import as_table
from ensemble.metrics import get_metric
from tests.ensemble.analysis.made import decided, plausible


def test_what_only_one_member_knows_by_hand() -> None:
    votes = {"a": [0, 0, 1, 1], "b": [0, 1, 0, 1], "c": [1, 1, 1, 0]}
    made = decided([0, 0, 0, 0], votes, blend=[0, 0, 0, 0], weights=[0.5, 0.5, 0.0])
    rows = as_table("members", members(*made)).to_pylist()
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    assert [row["weight"] for row in rows] == [0.5, 0.5, 0.0]
    assert [row["accuracy"] for row in rows] == [0.5, 0.5, 0.25]
    assert [row["only_right"] for row in rows] == [0.25, 0.25, 0.25]  # rows 1, 2 and 3
    # The blend agrees with c alone in row 3, but c has no say in it.
    assert [row["decided_alone"] for row in rows] == [0.25, 0.25, 0.0]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_scores_equal_the_metrics_of_the_probabilities(seed: int) -> None:
    made = plausible(seed)
    rows = as_table("members", members(made, decisions_of(made))).to_pylist()
    for row in rows:
        proba = made.read(row["name"])
        for name in ("log_loss", "accuracy", "macro_f1", "ece"):
            assert row[name] == pytest.approx(get_metric(name)(made.labels, proba)), name
    assert 0 <= sum(row["only_right"] for row in rows) <= 1
    assert np.isclose(sum(row["weight"] for row in rows), made.weights.sum())
