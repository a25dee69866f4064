from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from ensemble.analysis.per_class import class_counts, per_class
from ensemble.analysis.tables import as_table
from tests.ensemble.analysis.made import decided


def test_recall_precision_and_f1_by_hand() -> None:
    made = decided([0, 0, 0, 1], {"m": [0, 0, 0, 0]}, blend=[0, 0, 1, 1])
    rows = as_table("per_class", per_class(*made)).to_pylist()
    assert [(row["model"], row["class"]) for row in rows] == [
        (model, name) for model in ("blend", "m") for name in ("ant", "bee", "cat")
    ]
    blend_ant, blend_bee, blend_cat, m_ant, m_bee, _ = rows
    assert blend_ant == {
        "model": "blend",
        "class": "ant",
        "rows": 3,
        "recall": 2 / 3,
        "precision": 1.0,
        "f1": 0.8,
    }
    assert (blend_bee["recall"], blend_bee["precision"], blend_bee["f1"]) == (1.0, 0.5, 2 / 3)
    assert (m_ant["recall"], m_ant["precision"], m_ant["f1"]) == (1.0, 0.75, 6 / 7)
    # bee has a row, but m never decides for it; cat has no row and nobody decides for it.
    assert (m_bee["recall"], m_bee["precision"], m_bee["f1"]) == (0.0, None, 0.0)
    assert [blend_cat[name] for name in ("rows", "recall", "precision", "f1")] == [0, *[None] * 3]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 30), classes=st.integers(1, 6))
def test_equals_scikit_learn_where_it_is_defined(seed: int, rows: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels, decisions = rng.integers(classes, size=(2, rows))
    counts = class_counts(labels, decisions, classes)
    precision, recall, f1, true = precision_recall_fscore_support(
        labels, decisions, labels=range(classes), zero_division=np.nan
    )
    np.testing.assert_array_equal(counts.true, true)
    np.testing.assert_allclose(counts.recall, recall)
    np.testing.assert_allclose(counts.precision, precision)
    np.testing.assert_allclose(counts.f1, f1)
