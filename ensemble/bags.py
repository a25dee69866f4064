"""A bag of members: what it has now, and what each further member would make of it.

M members, N rows, C classes. A bag holds each member any number of times and stands for their
mean. Losses are `metric.loss(value)`: smaller is better.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from ensemble.kernels import readable
from ensemble.kernels_log_loss import log_losses, weighted_log_losses
from ensemble.metrics import LOG_LOSS_FLOOR, Metric

NOBODY = -1


class Bag(ABC):
    """Starts empty. `p_true`: (M, N). `members`: (m,) which of them may join. `row_weights`:
    (N,) or None."""

    def __init__(
        self,
        p_true: np.ndarray,
        metric: Metric,
        members: NDArray[np.int64],
        row_weights: NDArray[np.float64] | None,
    ) -> None:
        self.members = readable(members)
        self.metric = metric
        self.row_weights = row_weights
        self.size = 0
        self._p_true = p_true
        self._p_sum = np.zeros(p_true.shape[1])

    @property
    def n_members(self) -> int:
        """M, also where only some of them may join."""
        return len(self._p_true)

    @abstractmethod
    def losses(self, removed: int = NOBODY) -> NDArray[np.float64]:
        """(m,): the loss with each of `members` added, after one copy of `removed` has left."""

    def log_losses(self, members: NDArray[np.int64], removed: int = NOBODY) -> NDArray[np.float64]:
        """The same for log loss, and for these `members`."""
        p_sum, size = self._p_sum, self.size + 1
        if removed != NOBODY:
            p_sum, size = p_sum - self._p_true[removed], self.size
        members = readable(members)
        if self.row_weights is None:
            return log_losses(self._p_true, p_sum, size, members, LOG_LOSS_FLOOR)
        return weighted_log_losses(
            self._p_true, p_sum, size, members, LOG_LOSS_FLOOR, self.row_weights
        )

    def add(self, member: int) -> None:
        self._p_sum += self._p_true[member]
        self.size += 1

    def clear(self) -> None:
        self._p_sum[:] = 0.0
        self.size = 0


class LogLossBag(Bag):
    """Compiled; reads only `p_true`."""

    def losses(self, removed: int = NOBODY) -> NDArray[np.float64]:
        return self.log_losses(self.members, removed)


class TrueClassBag(Bag):
    """For any other metric that needs only the true class's probability."""

    def losses(self, removed: int = NOBODY) -> NDArray[np.float64]:
        assert self.metric.from_true_class is not None
        p_sum, size = self._p_sum, self.size + 1
        if removed != NOBODY:
            p_sum, size = p_sum - self._p_true[removed], self.size
        means = ((p_sum + self._p_true[member]) / size for member in self.members)
        values = (self.metric.from_true_class(mean, self.row_weights) for mean in means)
        return np.array([self.metric.loss(value) for value in values])


class AnyBag(Bag):
    """For any metric at all: the mean is formed for every member, and measured."""

    def __init__(
        self,
        probs: np.ndarray,
        labels: NDArray[np.int64],
        p_true: np.ndarray,
        metric: Metric,
        members: NDArray[np.int64],
        row_weights: NDArray[np.float64] | None,
    ) -> None:
        super().__init__(p_true, metric, members, row_weights)
        self._probs, self._labels = probs, labels
        self._sum = np.zeros(probs.shape[1:])

    def losses(self, removed: int = NOBODY) -> NDArray[np.float64]:
        total, size = self._sum, self.size + 1
        if removed != NOBODY:
            total, size = total - self._probs[removed], self.size
        means = ((total + self._probs[member]) / size for member in self.members)
        values = (self.metric(self._labels, mean, self.row_weights) for mean in means)
        return np.array([self.metric.loss(value) for value in values])

    def add(self, member: int) -> None:
        super().add(member)
        self._sum += self._probs[member]

    def clear(self) -> None:
        super().clear()
        self._sum[:] = 0.0
