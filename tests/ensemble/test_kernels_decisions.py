from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.bags import NOBODY
from ensemble.decision_bag import Members, read
from ensemble.kernels import readable
from ensemble.kernels_decisions import add_member, decisions_alone, find_flips
from tests.ensemble.made import member_probabilities


class State:
    """A bag's rows, filled by the kernels."""

    def __init__(self, of: Members, order: list[int]) -> None:
        (rows, listed), classes = of.classes.shape, of.probs.shape[2]
        self.of, self.order = of, np.empty(32, np.int64)
        ints = [np.full(rows, 77, np.int32) for _ in range(3)]
        floats = [np.full(rows, np.nan) for _ in range(3)]
        self.top, self.lead, self.most = ints[0], floats[1], floats[2]
        sums, whole = np.full((rows, listed), np.nan), np.full((rows, classes), np.nan)
        self.rows = (sums, floats[0], ints[0], ints[1], floats[1], floats[2], whole, ints[2])
        self.size = 0
        for member in order:
            self.size += 1
            read = of.probs, of.classes, of.listed, of.rest
            add_member(member, *read, self.order, self.size, *self.rows)

    def decided_with(self, members: np.ndarray, removed: int = NOBODY) -> np.ndarray:
        of, flips = self.of, np.empty((10_000, 3), np.int32)
        read = of.probs, of.classes, of.listed, of.highest, of.rest
        state = self.order, self.size, *self.rows
        found, _, _ = find_flips(removed, readable(members), *read, *state, flips)
        decided = np.tile(self.top, (len(members), 1))
        for i, n, new in flips[:found]:
            assert new != self.top[n]
            decided[i, n] = new
        return decided


def made(seed: int, classes: int, kind: str) -> np.ndarray:
    """(5, 40, classes) float32, with many near and exact ties where it is coarse or flat."""
    rng = np.random.default_rng(seed)
    if kind == "coarse":  # eighths add without rounding
        probs = rng.multinomial(8, np.full(classes, 1 / classes), size=(5, 40)) / 8
    elif kind == "flat":
        probs = 1 / classes + rng.integers(2, size=(5, 40, classes)) * 1e-6
    else:
        probs = member_probabilities(seed, 5, 40, classes, zeros=True)[0]
    return readable(probs.astype(np.float32))


cases = given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sampled_from([1, 2, 3, 10, 17, 40]),
    kind=st.sampled_from(["soft", "coarse", "flat"]),
)


@settings(deadline=None, max_examples=40)
@cases
def test_members_alone_decide_by_their_first_highest_class(
    seed: int, classes: int, kind: str
) -> None:
    probs = made(seed, classes, kind)
    of, _ = read(probs, np.zeros(40, np.int64))
    members = readable(np.array([3, 0, 4]))
    got = decisions_alone(members, of.probs, of.classes, of.listed, of.highest, of.rest)
    np.testing.assert_array_equal(got, probs[[3, 0, 4]].argmax(axis=2))


@settings(deadline=None, max_examples=80)
@cases
def test_skipping_safe_rows_changes_no_decision(seed: int, classes: int, kind: str) -> None:
    probs = made(seed, classes, kind)
    of, _ = read(probs, np.zeros(40, np.int64))
    order = np.random.default_rng(seed).integers(5, size=8).tolist()
    members = np.array([4, 0, 1, 3])
    state = State(of, [])
    for size in range(1, 9):
        state = State(of, order[:size])
        for _ in range(2):  # what the first search remembers is right for the second
            total = np.zeros(probs.shape[1:])
            for member in order[:size]:
                total += probs[member]
            np.testing.assert_array_equal(state.top, total.argmax(axis=1))
            expected = (total + probs[members]).argmax(axis=2)
            np.testing.assert_array_equal(state.decided_with(members), expected)


@settings(deadline=None, max_examples=80)
@cases
def test_bounds_kept_over_many_additions_stay_right(seed: int, classes: int, kind: str) -> None:
    probs = made(seed, classes, kind)
    of, _ = read(probs, np.zeros(40, np.int64))
    state, total = State(of, [0]), np.zeros(probs.shape[1:]) + probs[0]
    for member in np.random.default_rng(seed).integers(5, size=12).tolist():
        expected = (total + probs).argmax(axis=2)
        np.testing.assert_array_equal(state.decided_with(np.arange(5)), expected)
        runner_up = np.sort(total, axis=1)[:, -2] if classes > 1 else np.full(40, -np.inf)
        assert np.all(state.lead <= total.max(axis=1) - runner_up + 1e-12)
        p_top = probs[:, np.arange(40), state.top].astype(np.float64)
        assert np.all(state.most >= (probs.max(axis=2) - p_top).max(axis=0))
        state.size += 1
        read_of = of.probs, of.classes, of.listed, of.rest
        add_member(member, *read_of, state.order, state.size, *state.rows)
        total += probs[member]
        np.testing.assert_array_equal(state.top, total.argmax(axis=1))


@pytest.mark.parametrize("kind", ["soft", "coarse"])
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), classes=st.sampled_from([1, 2, 10, 17, 40]))
def test_an_exchange_decides_as_the_other_members_and_the_new_one(
    kind: str, seed: int, classes: int
) -> None:
    probs = made(seed, classes, kind)
    of, _ = read(probs, np.zeros(40, np.int64))
    order = np.random.default_rng(seed).integers(5, size=6).tolist()
    state = State(of, order)
    for removed in sorted(set(order)):
        left = probs[order].sum(axis=0, dtype=np.float64) - probs[removed]
        expected = (left + probs).argmax(axis=2)
        np.testing.assert_array_equal(state.decided_with(np.arange(5), removed), expected)
    np.testing.assert_array_equal(
        state.decided_with(np.arange(5)),
        (probs[order].sum(axis=0, dtype=np.float64) + probs).argmax(axis=2),
    )


def test_flips_without_room_are_counted() -> None:
    probs = made(1, 3, "soft")
    of, _ = read(probs, np.zeros(40, np.int64))
    state = State(of, [0])
    read_of = of.probs, of.classes, of.listed, of.highest, of.rest
    counted = []
    for room in (0, 2, 500):
        flips = np.full((room, 3), -1, np.int32)
        found, _, _ = find_flips(
            NOBODY, readable(np.arange(5)), *read_of, state.order, 1, *state.rows, flips
        )
        counted.append(found)
        assert (flips[:, 0] >= 0).sum() == min(found, room)
    assert len(set(counted)) == 1
    assert counted[0] > 2


def test_sure_rows_are_never_added_up() -> None:
    probs = np.full((4, 30, 20), 0.01, np.float32)
    probs[:, :, 3] = 0.81
    of, _ = read(readable(probs), np.full(30, 3, np.int64))
    state = State(of, [0, 1])
    flips = np.empty((10, 3), np.int32)
    read_of = of.probs, of.classes, of.listed, of.highest, of.rest
    got = find_flips(NOBODY, readable(np.arange(4)), *read_of, state.order, 2, *state.rows, flips)
    assert got == (0, 0, 0)
