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
from ensemble.kernels_decisions import add_member, decisions_alone, find_flips
from ensemble.kernels_read import read_members
from ensemble.metrics import ACCURACY, MACRO_F1, Metric
from ensemble.row_weights import row_shares

FEW_CLASSES = 16  # up to here all are listed
SHORTLIST = 8  # else so many

_EXACT = 2**53  # whole numbers up to here are exact in float64
_UNITS = 2.0**60  # what other row weights' sum is divided into


@dataclass(frozen=True, eq=False)
class Members:
    """What selection by decisions knows of all members. Besides `probs` that is 48 bytes for each
    member and row, or 4 C + 16 with up to 16 classes, if they are float32.

    probs    (M, N, C) float32 or float64, and of that type:
    classes  (N, K) int32: each row's shortlist, the classes that some member finds most probable
    listed   (N, M, K) the probabilities of those
    highest  (N, M) each member's highest probability in each row
    rest     (N, M) the highest of a class that is not listed
    p_true   (M, N) the probability of the row's true class
    labels   (N,) int64
    """

    probs: np.ndarray
    classes: NDArray[np.int32]
    listed: np.ndarray
    highest: np.ndarray
    rest: np.ndarray
    p_true: np.ndarray
    labels: NDArray[np.int64]


def read(probs: np.ndarray, labels: NDArray[np.int64]) -> tuple[Members, int]:
    """`Members` of `probs` (M, N, C), readable, and the largest of its values' bits: where that
    is not of a probability, what was read means nothing."""
    n_members, n_rows, n_classes = probs.shape
    n_listed = n_classes if n_classes <= FEW_CLASSES else SHORTLIST
    bits = probs.view(f"u{probs.itemsize}")
    classes = np.empty((n_rows, n_listed), np.int32)
    shapes = (n_rows, n_members, n_listed), (n_rows, n_members), (n_rows, n_members)
    listed, highest, rest = (np.empty(shape, bits.dtype) for shape in shapes)
    p_true = np.empty((n_members, n_rows), bits.dtype)
    labels = readable(labels)
    largest = read_members(bits, labels, classes, listed, highest, rest, p_true)
    listed, highest, rest, p_true = (
        readable(x.view(probs.dtype)) for x in (listed, highest, rest, p_true)
    )
    members = Members(probs, readable(classes), listed, highest, rest, p_true, labels)
    return members, int(largest)


class DecisionBag(Bag):
    """Memory beside `Members`: (N, C) float64, of which only rows that the shortlist does not
    decide are touched."""

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
        self._top = np.empty(n_rows, np.int32)
        self._rows = (  # as `kernels_decisions` wants them
            np.empty(source.classes.shape),
            np.empty(n_rows),
            self._top,
            np.empty(n_rows, np.int32),
            np.empty(n_rows),
            np.empty(n_rows),
            np.empty((n_rows, n_classes)),
            np.empty(n_rows, np.int32),
        )
        self._flips = np.empty((max(1024, n_rows // 4), 3), np.int32)
        # Pairs of a row and a member that skipping left to do, on the shortlist and in full.
        self.pairs_listed, self.pairs_whole = 0, 0

    def add(self, member: int) -> None:
        super().add(member)
        if self.size > len(self._order):
            self._order = np.concatenate([self._order, np.empty_like(self._order)])
        of = self._source
        read = of.probs, of.classes, of.listed, of.rest
        add_member(member, *read, self._order, self.size, *self._rows)

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
        decided = decisions_alone(
            self.members, of.probs, of.classes, of.listed, of.highest, of.rest
        )
        if self._counts_like(ACCURACY):
            correct = correct_alone(decided, of.labels, units)
            return self._sign * (correct / units.sum())
        if self._counts_like(MACRO_F1):
            return self._sign * f1_alone(decided, of.labels, units, of.probs.shape[2])
        return np.array([self._loss(row) for row in decided])

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
        read = of.probs, of.classes, of.listed, of.highest, of.rest
        while True:
            found, listed, whole = find_flips(
                removed, self.members, *read, self._order, self.size, *self._rows, self._flips
            )
            if found <= len(self._flips):
                self.pairs_listed += listed
                self.pairs_whole += whole
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
