from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ensemble.analysis.decisions import decisions_of
from ensemble.analysis.mergeable import MIN_MUTUAL, mergeable
from ensemble.analysis.tables import as_table
from tests.ensemble.analysis.made import CLASSES, analysed, decided, plausible, sure_of


def test_a_pair_by_hand() -> None:
    labels = [0, 0, 0, 0, 1, 1]
    blend = sure_of([0, 0, 1, 1, 0, 1], 3)
    blend[0] = [0.8, 0.1, 0.1]
    given = analysed(labels, {"m": blend}, blend)
    (row,) = as_table("mergeable", mergeable(given, decisions_of(given))).to_pylist()
    assert row == {
        "class_a": "ant",
        "class_b": "bee",
        "rows_a": 4,
        "rows_b": 2,
        "a_as_b": 0.5,
        "b_as_a": 0.5,
        "mutual": 0.5,
        "auc": row["auc"],
    }
    # Ratios of ant's rows: 8/9, .82, .18, .18; of bee's: .82, .18. Of 8 pairs: 2 + 1.5 + .5 + .5.
    assert row["auc"] == pytest.approx(4.5 / 8)


def test_one_way_confusion_counts_half_whatever_the_sizes() -> None:
    labels = [0] * 300 + [1] * 3
    made = decided(labels, {"m": labels}, blend=[0] * 303)
    (row,) = as_table("mergeable", mergeable(*made)).to_pylist()
    assert (row["a_as_b"], row["b_as_a"], row["mutual"], row["auc"]) == (0.0, 1.0, 0.5, 0.5)


def test_rare_confusions_and_classes_without_rows_are_left_out() -> None:
    two = decided([0, 0, 1, 1], {"m": [0, 0, 1, 1]}, blend=[0, 1, 0, 1])
    assert as_table("mergeable", mergeable(*two)).num_rows == 0
    absent = decided([0] * 9 + [1], {"m": [0] * 10}, blend=[2] * 9 + [1])
    assert as_table("mergeable", mergeable(*absent)).num_rows == 0
    labels = [0] * 40 + [1] * 40
    few = decided(labels, {"m": labels}, blend=[1] * 4 + [0] * 36 + [1] * 37 + [0] * 3)
    assert as_table("mergeable", mergeable(*few)).num_rows == 0  # (0.1 + 0.075) / 2


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_pair_equals_its_definition(seed: int) -> None:
    made = plausible(seed, rows=100)
    decided_ = made.blend.argmax(axis=1)
    rows = as_table("mergeable", mergeable(made, decisions_of(made))).to_pylist()
    found = {(row["class_a"], row["class_b"]): row for row in rows}
    for a in range(5):
        for b in range(a + 1, 5):
            of_a, of_b = made.labels == a, made.labels == b
            as_b, as_a = (decided_[of_a] == b), (decided_[of_b] == a)
            mutual = (as_b.mean() + as_a.mean()) / 2
            row = found.pop((CLASSES[a], CLASSES[b]), None)
            wanted = mutual >= MIN_MUTUAL and as_b.sum() + as_a.sum() >= 3
            assert (row is not None) == wanted
            if row is None:
                continue
            assert row["mutual"] == pytest.approx(mutual)
            either = of_a | of_b
            with np.errstate(invalid="ignore"):
                two = made.blend[either][:, [a, b]].astype(float)
                ratio = np.nan_to_num(two[:, 0] / two.sum(axis=1), nan=0.5)
            assert row["auc"] == pytest.approx(roc_auc_score(of_a[either], ratio))
    assert not found
    assert [row["mutual"] for row in rows] == sorted((r["mutual"] for r in rows), reverse=True)
