from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np

from ensemble.analysis.decisions import decisions_of, model_rows
from tests.ensemble.analysis.made import plausible


def test_a_row_becomes_its_decision_and_two_probabilities() -> None:
    proba = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]], np.float32)
    rows = model_rows("m", proba, np.array([0, 1, 0]))
    assert rows.name == "m"
    assert rows.decided.tolist() == [1, 0, 0]  # the first of equals
    assert rows.p_true.tolist() == [0.25, 0.5, 1.0]
    assert rows.confidence.tolist() == [0.75, 0.5, 1.0]


def test_members_and_blend_are_decided_as_by_themselves() -> None:
    given = plausible(0)
    decisions = decisions_of(given)
    assert [model.name for model in decisions.models()] == ["blend", *given.names]
    for index, name in enumerate(given.names):
        alone = model_rows(name, given.read(name), given.labels)
        member = decisions.member(index)
        np.testing.assert_array_equal(member.decided, alone.decided)
        np.testing.assert_array_equal(member.p_true, alone.p_true)
        np.testing.assert_array_equal(member.confidence, alone.confidence)
    np.testing.assert_array_equal(decisions.blend.decided, given.blend.argmax(axis=1))


def test_one_member_is_in_memory_at_a_time() -> None:
    given = plausible(0, members=6)
    stored = {name: given.read(name) for name in given.names}
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def read(name: str) -> np.ndarray:
        nonlocal most
        most = max(most, sum(ref() is not None for ref in alive))
        proba = stored[name].copy()
        alive.append(weakref.ref(proba))
        return proba

    decisions_of(replace(given, members=read))
    assert len(alive) == 6
    assert most == 0


def test_progress_names_every_member() -> None:
    said: list[str] = []
    decisions_of(plausible(0, members=2), progress=said.append)
    assert said == ["reading member 1 of 2: c0", "reading member 2 of 2: c1"]
