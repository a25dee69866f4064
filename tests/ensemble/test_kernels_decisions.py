from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.bags import NOBODY
from ensemble.decision_bag import read
from ensemble.kernels import readable
from ensemble.kernels_decisions import (
    Rows,
    add_member,
    bring_up,
    decide_whole,
    decisions_alone,
    find_flips,
    open_rows,
    start_rows,
)
from ensemble.kernels_read import Members
from tests.ensemble.made import member_probabilities


class State:
    """A bag's rows, filled by the kernels; what they hold before must not matter."""

    def __init__(self, of: Members, order: list[int]) -> None:
        n_rows, n_listed = of.classes.shape
        n_classes = of.probs.shape[2]
        self.of, self.size = of, 0
        self.rows = Rows(
            order=np.full(32, -9),
            sums=np.full((n_rows, n_listed), np.nan),
            bound=np.full(n_rows, np.nan),
            counted=np.full(n_rows, 77, np.int32),
            top=np.full(n_rows, 77, np.int32),
            place=np.full(n_rows, 77, np.int32),
            lead=np.full(n_rows, np.nan),
            most=np.full(n_rows, np.nan),
            whole=np.full((n_rows, n_classes), np.nan),
            seen=np.full(n_rows, 77, np.int32),
        )
        for member in order:
            self.add(member)

    def add(self, member: int) -> None:
        self.size += 1
        if self.size == 1:
            start_rows(self.rows)
        stale = np.empty(len(self.rows.top), np.int32)
        found = add_member(member, self.size, self.of, self.rows, stale)
        bring_up(stale[:found], self.size, self.of, self.rows)

    def opened(self, removed: int = NOBODY) -> np.ndarray:
        rows = np.empty(len(self.rows.top), np.int32)
        found = open_rows(removed, self.of, self.rows, rows)
        bring_up(rows[:found], self.size, self.of, self.rows)
        return rows[: open_rows(removed, self.of, self.rows, rows)]

    def decided_with(self, members: np.ndarray, removed: int = NOBODY) -> np.ndarray:
        flips, unsure = np.empty((10_000, 3), np.int32), np.empty((10_000, 2), np.int32)
        members, of, rows, size = readable(members.astype(np.uintp)), self.of, self.rows, self.size
        opened = self.opened(removed)
        done, found, left, _ = find_flips(
            opened, members, removed, size, of, rows, flips, 0, unsure, 0
        )
        assert done == len(opened)
        found = decide_whole(unsure[:left], members, removed, size, of, rows, flips, found)
        decided = np.tile(rows.top, (len(members), 1))
        for i, n, new in flips[:found]:
            assert decided[i, n] == rows.top[n] != new
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
    members = readable(np.array([3, 0, 4], np.uintp))
    got = decisions_alone(members, of)
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
            np.testing.assert_array_equal(state.rows.top, total.argmax(axis=1))
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
        assert np.all(state.rows.lead <= total.max(axis=1) - runner_up + 1e-12)
        p_top = probs[:, np.arange(40), state.rows.top].astype(np.float64)
        assert np.all(state.rows.most >= (probs.max(axis=2) - p_top).max(axis=0))
        state.add(member)
        total += probs[member]
        np.testing.assert_array_equal(state.rows.top, total.argmax(axis=1))


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


def test_it_stops_before_there_is_no_room_and_goes_on() -> None:
    of, _ = read(made(1, 40, "coarse"), np.zeros(40, np.int64))
    state, members = State(of, [0]), readable(np.arange(5, dtype=np.uintp))
    opened = state.opened()
    flips, unsure = np.full((300, 3), -1, np.int32), np.full((300, 2), -1, np.int32)

    def find(rows: np.ndarray, room: int, found: int, left: int) -> tuple[int, int, int, int]:
        some = flips[:room], found, unsure[:room], left
        return find_flips(rows, members, NOBODY, 1, of, state.rows, *some)

    whole = find(opened, 300, 0, 0)
    assert whole[0] == len(opened)
    assert min(whole[1:3]) > 10
    at_once = flips[: whole[1]].copy(), unsure[: whole[2]].copy()
    done = found = left = looked_at = 0
    while done < len(opened):
        new, found, left, looked = find(opened[done:], max(found, left) + 5, found, left)
        assert new > 0
        done, looked_at = done + new, looked_at + looked
    assert (done, found, left, looked_at) == whole
    np.testing.assert_array_equal(flips[:found], at_once[0])
    np.testing.assert_array_equal(unsure[:left], at_once[1])


def test_sure_rows_are_not_looked_at() -> None:
    probs = np.full((4, 30, 20), 0.01, np.float32)
    probs[:, :, 3] = 0.81
    of, _ = read(readable(probs), np.full(30, 3, np.int64))
    state = State(of, [0, 1])
    flips, unsure = np.empty((10, 3), np.int32), np.empty((10, 2), np.int32)
    members = readable(np.arange(4, dtype=np.uintp))
    got = find_flips(
        np.arange(30, dtype=np.int32), members, NOBODY, 2, of, state.rows, flips, 0, unsure, 0
    )
    assert got == (30, 0, 0, 0)
    assert len(state.opened()) == 0
