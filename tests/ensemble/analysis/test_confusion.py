from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from ensemble.analysis.confusion import TOP_PAIRS, confused_pairs, confusion
from ensemble.analysis.decisions import decisions_of
from ensemble.analysis.tables import as_table
from tests.ensemble.analysis.made import CLASSES, analysed, decided, plausible, sure_of


def test_confusion_holds_the_cells_above_zero() -> None:
    made = decided([0, 0, 0, 2], {"m": [0, 0, 0, 0]}, blend=[0, 0, 1, 2])
    assert as_table("confusion", confusion(*made)).to_pylist() == [
        {"true_class": "ant", "predicted_class": "ant", "count": 2},
        {"true_class": "ant", "predicted_class": "bee", "count": 1},
        {"true_class": "cat", "predicted_class": "cat", "count": 1},
    ]


def test_confused_pairs_by_hand() -> None:
    labels = [0, 0, 0, 0, 1, 1]
    blend = sure_of([0, 1, 1, 2, 1, 0], 3)
    blend[1] = [0.0, 1.0, 0.0]
    given = analysed(labels, {"m": sure_of([0, 0, 0, 0, 2, 2], 3)}, blend)
    table = as_table("confused_pairs", confused_pairs(given, decisions_of(given)))
    assert [tuple(row.values())[:5] for row in table.to_pylist()] == [
        ("m", "bee", "cat", 2, 1.0),  # as frequent, but all of its class
        ("blend", "ant", "bee", 2, 0.5),
        ("blend", "bee", "ant", 1, 0.5),
        ("blend", "ant", "cat", 1, 0.25),
    ]
    np.testing.assert_allclose(table["mean_probability"].to_numpy(), [0.7, 0.85, 0.7, 0.7])


def test_of_a_member_the_most_frequent_pairs_and_of_the_blend_all() -> None:
    n_classes = 6
    wrong = [(true, guess) for true in range(6) for guess in range(6) if true != guess]
    labels = [true for true, _ in wrong] + [5]
    guesses = [guess for _, guess in wrong] + [4]  # elk for fox, twice
    given = analysed(labels, {"m": sure_of(guesses, n_classes)}, sure_of(guesses, n_classes))
    rows = as_table("confused_pairs", confused_pairs(given, decisions_of(given))).to_pylist()
    assert [row["model"] for row in rows].count("blend") == 30
    assert [row["model"] for row in rows].count("m") == TOP_PAIRS
    assert {row["model"] for row in rows[:2]} == {"blend", "m"}
    assert {(row["true_class"], row["count"]) for row in rows[:2]} == {("fox", 2)}


def test_models_without_errors_have_no_pairs() -> None:
    made = decided([0, 1], {"m": [0, 1]}, [0, 1])
    assert as_table("confused_pairs", confused_pairs(*made)).num_rows == 0


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_confusion_equals_scikit_learn(seed: int) -> None:
    made = plausible(seed)
    table = as_table("confusion", confusion(made, decisions_of(made)))
    dense = np.zeros((5, 5), int)
    for row in table.to_pylist():
        dense[CLASSES.index(row["true_class"]), CLASSES.index(row["predicted_class"])] = row[
            "count"
        ]
    wanted = confusion_matrix(made.labels, made.blend.argmax(axis=1), labels=range(5))
    np.testing.assert_array_equal(dense, wanted)
