from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.analysis.agreement import agreement, pearson
from ensemble.analysis.decisions import decisions_of
from ensemble.analysis.tables import as_table
from ensemble.metrics import row_log_loss
from tests.ensemble.analysis.made import decided, plausible


def test_a_pair_by_hand() -> None:
    made = decided([0, 0, 0, 0], {"a": [0, 1, 1, 1], "b": [0, 0, 1, 2]}, [0, 0, 0, 0])
    (row,) = as_table("agreement", agreement(*made)).to_pylist()
    assert (row["member_a"], row["member_b"]) == ("a", "b")
    assert row["agreement"] == 0.5  # rows 0 and 2
    assert row["both_wrong"] == 0.5  # rows 2 and 3
    assert row["same_wrong"] == 0.25  # row 2
    # errors 0111 and 0011: covariance 1/8, variances 3/16 and 1/4
    assert row["error_correlation"] == pytest.approx(0.125 / np.sqrt(3 / 64))
    assert row["loss_correlation"] == pytest.approx(0.125 / np.sqrt(3 / 64))


def test_correlation_with_a_member_that_is_always_right_is_undefined() -> None:
    made = decided([0, 1, 0], {"a": [0, 1, 0], "b": [0, 0, 0]}, [0, 1, 0])
    (row,) = as_table("agreement", agreement(*made)).to_pylist()
    assert row["error_correlation"] is None
    assert row["loss_correlation"] is None
    assert row["agreement"] == pytest.approx(2 / 3)


def test_one_member_has_no_pairs() -> None:
    made = decided([0, 1], {"a": [0, 1]}, [0, 1])
    assert as_table("agreement", agreement(*made)).num_rows == 0


def test_a_constant_that_is_no_round_number_correlates_with_nothing() -> None:
    values = np.array([[0.1] * 7, [0.3, 0.1, 0.2, 0.5, 0.6, 0.1, 0.9]])
    assert np.isnan(pearson(values.copy())[0]).all()
    assert pearson(values.copy())[1, 1] == pytest.approx(1.0)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_pair_equals_its_definition(seed: int) -> None:
    made = plausible(seed)
    decisions = decisions_of(made)
    rows = as_table("agreement", agreement(made, decisions)).to_pylist()
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)]
    assert [(row["member_a"], row["member_b"]) for row in rows] == [
        (made.names[a], made.names[b]) for a, b in pairs
    ]
    for row, (a, b) in zip(rows, pairs, strict=True):
        first, second = decisions.member(a), decisions.member(b)
        wrong = first.decided != made.labels, second.decided != made.labels
        same = first.decided == second.decided
        assert row["agreement"] == pytest.approx(same.mean())
        assert row["both_wrong"] == pytest.approx((wrong[0] & wrong[1]).mean())
        assert row["same_wrong"] == pytest.approx((same & wrong[0]).mean())
        assert row["error_correlation"] == pytest.approx(np.corrcoef(*wrong)[0, 1])
        losses = row_log_loss(first.p_true), row_log_loss(second.p_true)
        assert row["loss_correlation"] == pytest.approx(np.corrcoef(*losses)[0, 1])
