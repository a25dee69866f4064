"""Greedy selection with replacement.

Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models", ICML
2004, section 2. The weights are those of the best prefix of the selection.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ensemble.average import check_members, true_class_matrix
from ensemble.metrics import LOG_LOSS, Metric, row_log_loss

DEFAULT_STEPS = 25
MARGIN_SLACK = 1e-9  # rows decided by less than this are looked at again, rounding or not

# A bag of members selected so far is scored for every member as the next addition: (members,)
# float64, smaller is better. `add` puts one in.
Scores = NDArray[np.float64]


def greedy_weights(
    probs: np.ndarray, labels: np.ndarray, metric: Metric, *, steps: int = DEFAULT_STEPS
) -> NDArray[np.float64]:
    """Select `steps` times the member that helps the mean most.

    `probs`: (members, samples, classes). `labels`: (samples,). Returns (members,) float64
    weights: how often each was chosen in the best prefix, divided by its length. So the blend is
    in-sample never worse than the best single member. Among members that help equally, those
    already chosen come first, then the lower log loss, then the lower index; among prefixes the
    lower log loss, then the shorter. Raises ValueError on a shape mismatch or any NaN.
    """
    check_members(probs, labels)
    p_true = true_class_matrix(probs, labels)
    if metric.from_true_class is not None:
        return greedy_from_true_class(p_true, metric, steps=steps)
    if metric.from_decisions is not None:
        return _select(_DecisionBag(probs, labels, metric), p_true, steps)
    return _select(_AnyBag(probs, labels, metric), p_true, steps)


def greedy_from_true_class(
    p_true: np.ndarray, metric: Metric = LOG_LOSS, *, steps: int = DEFAULT_STEPS
) -> NDArray[np.float64]:
    """`greedy_weights` for a metric that needs only `p_true` (members, samples): the probability
    that each member gives to each row's true class."""
    return _select(_TrueClassBag(p_true, metric), p_true, steps)


class _TrueClassBag:
    def __init__(self, p_true: np.ndarray, metric: Metric) -> None:
        if metric.from_true_class is None:
            raise ValueError(f"{metric.name} needs more than the true class's probability")
        self._value: Callable[[np.ndarray], float] = metric.from_true_class
        self._metric = metric
        self._p_true = p_true.astype(np.float64, copy=False)
        self._sum = np.zeros(p_true.shape[1])
        self._size = 0

    def scores(self) -> Scores:
        values = (self._value((self._sum + row) / (self._size + 1)) for row in self._p_true)
        return np.array([self._metric.loss(value) for value in values])

    def add(self, member: int) -> None:
        self._sum += self._p_true[member]
        self._size += 1


class _DecisionBag:
    """For metrics of the predicted class. A member cannot flip a row whose margin in the running
    sum exceeds the most that the member could add to a rival: only the other rows are looked at.
    """

    def __init__(self, probs: np.ndarray, labels: np.ndarray, metric: Metric) -> None:
        if metric.from_decisions is None:
            raise ValueError(f"{metric.name} needs more than the predicted class")
        self._value: Callable[[np.ndarray, np.ndarray, int], float] = metric.from_decisions
        self._metric = metric
        self._probs = probs
        self._labels = labels
        self._rows = np.arange(len(labels))
        self._highest = probs.max(axis=2)
        self._sum: np.ndarray = np.zeros(probs.shape[1:])
        self._update()

    def scores(self) -> Scores:
        return np.array([self._score(member) for member in range(len(self._probs))])

    def add(self, member: int) -> None:
        self._sum += self._probs[member]
        self._update()

    def _update(self) -> None:
        self._top = self._sum.argmax(axis=1)
        if self._sum.shape[1] == 1:
            self._margin = np.full(len(self._rows), np.inf)
            return
        best_two = np.partition(self._sum, -2, axis=1)[:, -2:]
        self._margin = best_two[:, 1] - best_two[:, 0]

    def _score(self, member: int) -> float:
        gain = self._highest[member] - self._probs[member, self._rows, self._top]
        open_rows = np.flatnonzero(self._margin <= gain + MARGIN_SLACK)
        decided = self._top.copy()
        together = self._sum[open_rows] + self._probs[member, open_rows]
        decided[open_rows] = together.argmax(axis=1)
        return self._metric.loss(self._value(self._labels, decided, self._sum.shape[1]))


class _AnyBag:
    def __init__(self, probs: np.ndarray, labels: np.ndarray, metric: Metric) -> None:
        self._probs, self._labels, self._metric = probs, labels, metric
        self._sum: np.ndarray = np.zeros(probs.shape[1:])
        self._size = 0

    def scores(self) -> Scores:
        means = ((self._sum + proba) / (self._size + 1) for proba in self._probs)
        return np.array([self._metric.loss(self._metric(self._labels, mean)) for mean in means])

    def add(self, member: int) -> None:
        self._sum += self._probs[member]
        self._size += 1


def _select(
    bag: _TrueClassBag | _DecisionBag | _AnyBag, p_true: np.ndarray, steps: int
) -> NDArray[np.float64]:
    if steps < 1:
        raise ValueError(f"expected at least one step, got {steps}")
    counts = np.zeros(len(p_true), dtype=np.int64)
    p_sum = np.zeros(p_true.shape[1])
    best: tuple[float, float] = (np.inf, np.inf)
    best_counts = counts
    for step in range(steps):
        scores = bag.scores()
        member = _choose(scores, counts, p_true, p_sum, step)
        bag.add(member)
        counts[member] += 1
        p_sum += p_true[member]
        score = (float(scores[member]), _mean_log_loss(p_sum / (step + 1)))
        if score < best:
            best, best_counts = score, counts.copy()
    return best_counts / best_counts.sum()


def _choose(
    scores: Scores, counts: np.ndarray, p_true: np.ndarray, p_sum: np.ndarray, step: int
) -> int:
    tied = np.flatnonzero(scores == scores.min())
    chosen = tied[counts[tied] > 0]
    tied = chosen if len(chosen) else tied
    if len(tied) == 1:
        return int(tied[0])
    losses = [_mean_log_loss((p_sum + p_true[member]) / (step + 1)) for member in tied]
    return int(tied[int(np.argmin(losses))])


def _mean_log_loss(p_true: np.ndarray) -> float:
    return float(np.mean(row_log_loss(p_true)))
