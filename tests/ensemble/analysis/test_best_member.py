from __future__ import annotations

import pytest

from ensemble.analysis.best_member import best_member
from ensemble.analysis.tables import as_table
from tests.ensemble.analysis.made import decided

LABELS = [0, 0, 1, 1]


def test_the_member_with_the_highest_f1_on_a_class_is_named_with_its_gain() -> None:
    made = decided(LABELS, {"a": [0, 0, 0, 1], "b": [0, 1, 1, 1]}, blend=[0, 1, 0, 1])
    rows = as_table("best_member", best_member(*made)).to_pylist()
    ant, bee = rows  # cat has no rows
    # a on ant: recall 1, precision 2/3; b on ant: recall 1/2, precision 1, F1 2/3.
    assert (ant["class"], ant["member"], ant["recall"]) == ("ant", "a", 1.0)
    assert ant["f1"] == pytest.approx(0.8)
    assert (ant["blend_recall"], ant["blend_f1"]) == (0.5, 0.5)
    assert ant["gain"] == pytest.approx(0.3)
    assert (bee["class"], bee["member"], bee["recall"]) == ("bee", "b", 1.0)


def test_of_equals_the_higher_weight_wins_and_then_the_name() -> None:
    same = {"b": LABELS, "a": LABELS, "c": LABELS}
    made = decided(LABELS, same, LABELS, weights=[0.2, 0.2, 0.6])
    assert best_member(*made)["member"].tolist() == ["c", "c"]
    made = decided(LABELS, same, LABELS, weights=[0.5, 0.5, 0.0])
    assert best_member(*made)["member"].tolist() == ["a", "a"]


def test_a_class_that_nobody_gets_right_has_a_best_member_all_the_same() -> None:
    made = decided([0, 1], {"a": [0, 0], "b": [0, 0]}, [0, 0], weights=[0.1, 0.9])
    rows = as_table("best_member", best_member(*made)).to_pylist()
    assert rows[1] == {
        "class": "bee",
        "member": "b",
        "recall": 0.0,
        "blend_recall": 0.0,
        "f1": 0.0,
        "blend_f1": 0.0,
        "gain": 0.0,
    }
