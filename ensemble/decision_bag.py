"""A bag of members for metrics of the predicted class.

M members, N rows, C classes. The array of all probabilities is read once; afterwards only the rows
that a member may decide otherwise are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ensemble.bags import NOBODY, Bag
from ensemble.kernels import readable
from ensemble.kernels_counts import correct_after, correct_alone, f1_after, f1_alone
from ensemble.kernels_decisions import add_member, find_flips
from ensemble.kernels_read import read_members
from ensemble.metrics import ACCURACY, MACRO_F1, Metric
from ensemble.row_weights import row_shares

_EXACT = 2**53  # whole numbers up to here are exact in float64
_UNITS = 2.0**60  # what other row weights' sum is divided into


@dataclass(frozen=True, eq=False)
class Members:
    """What selection by decisions knows of all members.

    probs    (M, N, C) float32 or float64, and of that type:
    highest  (N, M) each member's highest probability in each row
    second   (N, M) the next one, possibly equal
    best     (N, M) int32 the first class of the highest
    p_true   (M, N) the probability of the row's true class
    labels   (N,) int64
    """

    probs: np.ndarray
    highest: np.ndarray
    second: np.ndarray
    best: NDArray[np.int32]
    p_true: np.ndarray
    labels: NDArray[np.int64]


def read(probs: np.ndarray, labels: NDArray[np.int64]) -> tuple[Members, int]:
    """`Members` of `probs` (M, N, C), readable, and the largest of its values' bits: where that
    is not of a probability, what was read means nothing."""
    n_members, n_rows, _ = probs.shape
    unsigned = np.dtype(f"u{probs.itemsize}")
    highest = np.empty((n_rows, n_members), unsigned)
    second = np.empty_like(highest)
    best = np.empty((n_rows, n_members), np.int32)
    p_true = np.empty((n_members, n_rows), unsigned)
    labels = readable(labels)
    largest = read_members(probs.view(unsigned), labels, highest, second, best, p_true)
    highest, second, p_true = (x.view(probs.dtype) for x in (highest, second, p_true))
    members = Members(
        probs, readable(highest), readable(second), readable(best), readable(p_true), labels
    )
    return members, int(largest)


class DecisionBag(Bag):
    """Memory beside `Members`: (N, C) float64, of which rows that stay safe are never touched."""

    def __init__(
        self,
        source: Members,
        metric: Metric,
        members: NDArray[np.int64],
        row_weights: NDArray[np.float64] | None,
    ) -> None:
        super().__init__(source.p_true, metric, members, row_weights)
        n_rows, n_classes = source.probs.shape[1:]
        self._source = source
        self._units = row_units(row_weights, n_rows)
        self._order = np.empty(32, np.int64)
        self._sums = np.empty((n_rows, n_classes))
        self._seen = np.empty(n_rows, np.int32)
        self._top = np.empty(n_rows, np.int32)
        self._lead = np.empty(n_rows)
        self._most = np.empty(n_rows)
        self._of_top = np.empty_like(source.highest)
        self._flips = np.empty((max(1024, n_rows // 4), 3), np.int32)
        self.pairs_summed = 0  # of a row and a member: what the skipping left to do

    def add(self, member: int) -> None:
        super().add(member)
        if self.size > len(self._order):
            self._order = np.concatenate([self._order, np.empty_like(self._order)])
        of = self._source
        add_member(
            member,
            of.probs,
            of.highest,
            of.second,
            of.best,
            self._order,
            self.size,
            self._sums,
            self._seen,
            self._top,
            self._lead,
            self._most,
        )

    def losses(self, removed: int = NOBODY) -> NDArray[np.float64]:
        if self.size == (removed != NOBODY):  # nobody to join
            return self._losses_alone()
        flips = self._find_flips(removed)
        of, labels, units = self._source, self._source.labels, self._units
        if self._counts_like(ACCURACY):
            correct = correct_after(len(self.members), flips, self._top, labels, units)
            return self._sign * (correct / units.sum())
        if self._counts_like(MACRO_F1):
            n_classes = of.probs.shape[2]
            return self._sign * f1_after(
                len(self.members), flips, self._top, labels, units, n_classes
            )
        return np.array([self._loss(decided) for decided in self._decided(flips)])

    def _losses_alone(self) -> NDArray[np.float64]:
        of, units = self._source, self._units
        if self._counts_like(ACCURACY):
            correct = correct_alone(self.members, of.best, of.labels, units)
            return self._sign * (correct / units.sum())
        if self._counts_like(MACRO_F1):
            n_classes = of.probs.shape[2]
            return self._sign * f1_alone(self.members, of.best, of.labels, units, n_classes)
        return np.array([self._loss(of.best[:, member]) for member in self.members])

    def _counts_like(self, metric: Metric) -> bool:
        return self.metric.from_decisions is metric.from_decisions

    @property
    def _sign(self) -> float:
        return self.metric.loss(1.0)

    def _loss(self, decided: np.ndarray) -> float:
        assert self.metric.from_decisions is not None
        n_classes = self._source.probs.shape[2]
        labels, wide = self._source.labels, decided.astype(np.int64)
        return self.metric.loss(
            self.metric.from_decisions(labels, wide, n_classes, self.row_weights)
        )

    def _decided(self, flips: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
        """(N,) decisions with each of `members` added."""
        flips = flips[np.argsort(flips[:, 0], kind="stable")]
        starts = np.searchsorted(flips[:, 0], np.arange(len(self.members) + 1))
        for start, end in pairwise(starts):
            decided = self._top.copy()
            decided[flips[start:end, 1]] = flips[start:end, 2]
            yield decided

    def _find_flips(self, removed: int) -> NDArray[np.int32]:
        of = self._source
        while True:
            found, summed = find_flips(
                removed,
                self.members,
                of.probs,
                of.highest,
                of.second,
                of.best,
                self._order,
                self.size,
                self._sums,
                self._seen,
                self._top,
                self._lead,
                self._most,
                self._of_top,
                self._flips,
            )
            if found <= len(self._flips):
                self.pairs_summed += summed
                return readable(self._flips[:found])
            self._flips = np.empty((2 * found, 3), np.int32)


def row_units(row_weights: np.ndarray | None, n_rows: int) -> NDArray[np.int64]:
    """(N,) int64: row weights as whole numbers, so that sums of them are exact in any order. Whole
    weights as they are, others to 60 binary digits of their sum."""
    if row_weights is None:
        return np.ones(n_rows, np.int64)
    if row_weights.sum() < _EXACT and np.array_equal(row_weights, np.rint(row_weights)):
        return row_weights.astype(np.int64)
    return np.rint(row_shares(row_weights, n_rows) * _UNITS).astype(np.int64)
