"""A bag of members for metrics of the predicted class.

M members, N rows, C classes. The array of all probabilities is read once; afterwards only the rows
that a member may decide otherwise are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ensemble.bags import NOBODY, Bag
from ensemble.kernels import readable
from ensemble.kernels_counts import correct_after, correct_alone, f1_after, f1_alone
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
from ensemble.kernels_read import Members, read_members
from ensemble.metrics import ACCURACY, MACRO_F1, Metric
from ensemble.row_weights import row_shares

SHORTLIST = 16  # classes a row; with that many, all

_EXACT = 2**53  # whole numbers up to here are exact in float64
_UNITS = 2.0**60  # what other row weights' sum is divided into


def read(probs: np.ndarray, labels: NDArray[np.int64]) -> tuple[Members, int]:
    """`Members` of `probs` (M, N, C), readable, and the largest of its values' bits: where that
    is not of a probability, what was read means nothing."""
    n_members, n_rows, n_classes = probs.shape
    n_listed = min(n_classes, SHORTLIST)
    members = Members(
        probs=probs,
        classes=np.empty((n_rows, n_listed), np.int32),
        listed=np.empty((n_rows, n_members, n_listed), probs.dtype),
        best=np.empty((n_rows, n_members), np.uint8),
        highest=np.empty((n_rows, n_members), np.uint8),
        second=np.empty((n_rows, n_members), np.uint8),
        rest=np.empty((n_rows, n_members), probs.dtype),
        p_true=np.empty((n_members, n_rows), probs.dtype),
    )
    bits = np.dtype(f"u{probs.itemsize}")
    largest = read_members(members, probs.view(bits), members.rest.view(bits), readable(labels))
    return Members(*(readable(field) for field in members)), int(largest)


class DecisionBag(Bag):
    """Memory beside `Members`: (N, C) float64, of which only rows that the shortlist does not
    decide are touched, and (N, K) float64."""

    def __init__(
        self,
        of: Members,
        labels: NDArray[np.int64],
        metric: Metric,
        members: NDArray[np.int64],
        row_weights: NDArray[np.float64] | None,
    ) -> None:
        super().__init__(of.p_true, metric, members, row_weights)
        n_rows, n_classes = of.probs.shape[1:]
        self._of = of
        self._labels = readable(labels)
        self._units = row_units(row_weights, n_rows)
        floats, ints = partial(np.empty, dtype=np.float64), partial(np.empty, dtype=np.int32)
        self._rows = Rows(
            order=np.empty(32, np.int64),
            sums=floats(of.classes.shape),
            bound=floats(n_rows),
            counted=ints(n_rows),
            top=ints(n_rows),
            place=ints(n_rows),
            lead=floats(n_rows),
            most=floats(n_rows),
            whole=floats((n_rows, n_classes)),
            seen=ints(n_rows),
        )
        self._which = np.empty(n_rows, np.int32)
        self._positions = readable(members.astype(np.uintp))
        self._flips = np.empty((n_rows + len(members), 3), np.int32)
        self._unsure = np.empty((n_rows // 4 + len(members), 2), np.int32)
        # Pairs of a row and a member that skipping left to do; over all classes.
        self.pairs_looked_at, self.pairs_summed_up = 0, 0

    def add(self, member: int) -> None:
        super().add(member)
        order = self._rows.order
        if self.size > len(order):
            self._rows = self._rows._replace(order=np.concatenate([order, order]))
        if self.size == 1:
            start_rows(self._rows)
        stale = add_member(member, self.size, self._of, self._rows, self._which)
        bring_up(self._which[:stale], self.size, self._of, self._rows)

    def losses(self, removed: int = NOBODY) -> NDArray[np.float64]:
        if self.size == (removed != NOBODY):  # nobody to join
            return self._losses_alone()
        flips, top = self._find_flips(removed), self._rows.top
        n_members, n_classes = len(self.members), self._of.probs.shape[2]
        if self._counts_like(ACCURACY):
            correct = correct_after(n_members, flips, top, self._labels, self._units)
            return self._sign * (correct / self._units.sum())
        if self._counts_like(MACRO_F1):
            scores = f1_after(n_members, flips, top, self._labels, self._units, n_classes)
            return self._sign * scores
        return np.array([self._loss(decided) for decided in self._decided(flips)])

    def _losses_alone(self) -> NDArray[np.float64]:
        decided = decisions_alone(self._positions, self._of)
        if self._counts_like(ACCURACY):
            correct = correct_alone(decided, self._labels, self._units)
            return self._sign * (correct / self._units.sum())
        if self._counts_like(MACRO_F1):
            n_classes = self._of.probs.shape[2]
            return self._sign * f1_alone(decided, self._labels, self._units, n_classes)
        return np.array([self._loss(row) for row in decided])

    def _counts_like(self, metric: Metric) -> bool:
        return self.metric.from_decisions is metric.from_decisions

    @property
    def _sign(self) -> float:
        return self.metric.loss(1.0)

    def _loss(self, decided: np.ndarray) -> float:
        assert self.metric.from_decisions is not None
        wide, n_classes = decided.astype(np.int64), self._of.probs.shape[2]
        value = self.metric.from_decisions(self._labels, wide, n_classes, self.row_weights)
        return self.metric.loss(value)

    def _decided(self, flips: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
        """(N,) decisions with each of `members` added."""
        flips = flips[np.argsort(flips[:, 0], kind="stable")]
        starts = np.searchsorted(flips[:, 0], np.arange(len(self.members) + 1))
        for start, end in pairwise(starts):
            decided = self._rows.top.copy()
            decided[flips[start:end, 1]] = flips[start:end, 2]
            yield decided

    def _find_flips(self, removed: int) -> NDArray[np.int32]:
        of, rows, members, size = self._of, self._rows, self._positions, self.size
        opened = self._which[: open_rows(removed, of, rows, self._which)]
        bring_up(opened, size, of, rows)
        opened = self._which[: open_rows(removed, of, rows, self._which)]
        found = unsure = 0
        while True:
            done, found, unsure, looked_at = find_flips(
                opened, members, removed, size, of, rows, self._flips, found, self._unsure, unsure
            )
            self.pairs_looked_at += looked_at
            if done == len(opened):
                break
            opened = opened[done:]
            self._flips = _with_room(self._flips, found + len(members))
            self._unsure = _with_room(self._unsure, unsure + len(members))
        self.pairs_summed_up += unsure
        self._flips = _with_room(self._flips, found + unsure)
        pairs = self._unsure[:unsure]
        found = decide_whole(pairs, members, removed, size, of, rows, self._flips, found)
        return readable(self._flips[:found])


def _with_room(array: NDArray[np.int32], wanted: int) -> NDArray[np.int32]:
    if len(array) >= wanted:
        return array
    more = np.empty((2 * wanted - len(array), array.shape[1]), np.int32)
    return np.concatenate([array, more])


def row_units(row_weights: np.ndarray | None, n_rows: int) -> NDArray[np.int64]:
    """(N,) int64: row weights as whole numbers, so that sums of them are exact in any order. Whole
    weights as they are, others to 60 binary digits of their sum."""
    if row_weights is None:
        return np.ones(n_rows, np.int64)
    if row_weights.sum() < _EXACT and np.array_equal(row_weights, np.rint(row_weights)):
        return row_weights.astype(np.int64)
    return np.rint(row_shares(row_weights, n_rows) * _UNITS).astype(np.int64)
