from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ensemble.analysis.decisions import decisions_of
from ensemble.analysis.inputs import Analysed
from ensemble.analysis.suspects import (
    MAX_SUSPECTS,
    confident_learning,
    suspects,
    wrong_and_sure,
)
from ensemble.analysis.tables import as_table
from tests.ensemble.analysis.made import analysed, plausible, sure_of


def planted(seed: int, rows: int = 600, errors: int = 30) -> tuple[Analysed, NDArray[np.bool_]]:
    """Members that see the truth through noise, and labels of which some are not the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(4, size=rows)
    wrong = np.zeros(rows, dtype=bool)
    wrong[rng.choice(rows, errors, replace=False)] = True
    labels = np.where(wrong, (truth + rng.integers(1, 4, size=rows)) % 4, truth)
    shared = rng.normal(size=(rows, 4))
    shared[np.arange(rows), truth] += 4
    logits = shared + 0.5 * rng.normal(size=(5, rows, 4))
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    probs = probs.astype(np.float32)
    members = {f"c{index}": proba for index, proba in enumerate(probs)}
    return analysed(labels.tolist(), members, probs.mean(axis=0)), wrong


def test_planted_label_errors_are_found_and_come_first() -> None:
    given, wrong = planted(0)
    table = as_table("suspects", suspects(given, decisions_of(given)))
    rows = np.array([int(name[1:]) for name in table["id"].to_pylist()])
    assert wrong[rows].sum() >= 20  # of 30; the others are rows that the blend is not sure about
    assert wrong[rows].mean() >= 0.95
    assert wrong[rows[:20]].all()


def test_a_row_by_hand() -> None:
    """Twenty plain rows of two classes, and one that everyone is sure is the other."""
    labels = [0] * 10 + [1] * 11
    votes = [0] * 10 + [1] * 10 + [0]
    members = {"a": sure_of(votes, 3, 0.8), "b": sure_of(votes, 3, 0.9)}
    given = analysed(labels, members, sure_of(votes, 3, 0.85))
    (row,) = as_table("suspects", suspects(given, decisions_of(given))).to_pylist()
    assert row == {
        "rank": 1,
        "id": "r20",
        "label": "bee",
        "suggested": "ant",
        "p_label": pytest.approx(0.075),
        "p_suggested": pytest.approx(0.85),
        "margin": pytest.approx(0.775),
        "members_wrong": 2,
        "members": 2,
        "all_wrong": True,
        "confident_learning": True,
    }


def test_all_wrong_asks_every_member_to_be_as_sure_as_it_usually_is() -> None:
    labels = [0] * 10 + [1] * 12
    votes = [0] * 10 + [1] * 10 + [0, 0]
    sure, unsure = sure_of(votes, 2, 0.8), sure_of(votes, 2, 0.8)
    unsure[-1] = [0.6, 0.4]  # wrong, but it gives ants 0.8
    given = analysed(labels, {"a": sure, "b": unsure}, sure)
    decisions = decisions_of(given)
    assert np.flatnonzero(wrong_and_sure(given, decisions)).tolist() == [20]
    rows = as_table("suspects", suspects(given, decisions)).to_pylist()
    assert [(row["id"], row["all_wrong"], row["members_wrong"]) for row in rows] == [
        ("r20", True, 2),
        ("r21", False, 2),
    ]


def test_rows_of_both_witnesses_come_first_then_confident_learning_then_unanimity() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [1, 1, 1])
    votes = [0] * 10 + [1] * 10 + [0, 0, 0]
    member = sure_of(votes, 2, 0.8)
    member[21] = [0.4, 0.6]  # right
    blend = sure_of(votes, 2, 0.8)
    blend[20] = [0.55, 0.45]  # the blend is not sure of its ant
    blend[21] = [0.95, 0.05]
    given = analysed(labels.tolist(), {"a": member}, blend)
    rows = as_table("suspects", suspects(given, decisions_of(given))).to_pylist()
    assert [(row["id"], row["confident_learning"], row["all_wrong"]) for row in rows] == [
        ("r22", True, True),
        ("r21", True, False),
        ("r20", False, True),
    ]
    assert [row["rank"] for row in rows] == [1, 2, 3]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_within_a_witness_is_that_of_cleanlab(seed: int) -> None:
    given, _ = planted(seed, rows=120, errors=20)
    table = as_table("suspects", suspects(given, decisions_of(given)))
    quality = get_label_quality_scores(given.labels, given.blend, method="normalized_margin")
    rows = np.array([int(name[1:]) for name in table["id"].to_pylist()], dtype=int)
    learned, all_wrong = (table[name].to_numpy() for name in ("confident_learning", "all_wrong"))
    for tier in (learned & all_wrong, learned & ~all_wrong, ~learned):
        assert (np.diff(quality[rows[tier]]) >= -1e-6).all()
    np.testing.assert_allclose(1 - 2 * quality[rows], table["margin"].to_numpy(), atol=1e-6)


def test_a_class_without_rows_is_nobodys_confident_suggestion() -> None:
    labels = [0] * 10 + [1] * 11
    votes = [0] * 10 + [1] * 10 + [2]
    proba = sure_of(votes, 3, 0.9)
    given = analysed(labels, {"a": proba}, proba)
    assert as_table("suspects", suspects(given, decisions_of(given))).num_rows == 0


def test_labels_of_one_class_have_no_suspects() -> None:
    proba = sure_of([0, 1, 0], 2)
    given = analysed([0, 0, 0], {"a": proba}, proba)
    assert not confident_learning(given.labels, given.blend).any()
    assert as_table("suspects", suspects(given, decisions_of(given))).num_rows == 0
    lonely = analysed([0, 0], {"a": np.ones((2, 1), np.float32)}, np.ones((2, 1), np.float32))
    assert as_table("suspects", suspects(lonely, decisions_of(lonely))).num_rows == 0


def test_at_most_a_thousand_rows_the_widest_margins() -> None:
    given, wrong = planted(1, rows=8000, errors=2000)
    table = as_table("suspects", suspects(given, decisions_of(given)))
    assert table.num_rows == MAX_SUSPECTS
    rows = [int(name[1:]) for name in table["id"].to_pylist()]
    assert wrong[rows].mean() > 0.9


def test_the_suggestion_is_another_class_with_the_blends_own_probability() -> None:
    given = plausible(0, rows=80)
    table = as_table("suspects", suspects(given, decisions_of(given)))
    blend = dict(zip(given.ids, given.blend, strict=True))
    for row in table.to_pylist():
        assert row["p_suggested"] == pytest.approx(
            float(blend[row["id"]][given.classes.index(row["suggested"])])
        )
        assert row["suggested"] != row["label"]


def test_equal_margins_are_ranked_by_id() -> None:
    labels = [0] * 10 + [1] * 14
    votes = [0] * 10 + [1] * 10 + [0] * 4
    proba = sure_of(votes, 2, 0.9)
    given = analysed(labels, {"a": proba}, proba)
    names = given.ids.copy()
    names[-4:] = ["z", "y", "a", "b"]
    table = suspects(replace(given, ids=names), decisions_of(given))
    assert list(table["id"]) == ["a", "b", "y", "z"]


def test_importing_the_module_does_not_load_cleanlab() -> None:
    code = "import sys, ensemble.analysis.tables; print('cleanlab' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
