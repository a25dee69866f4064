"""Members to choose from: checked and read once, then any number of bags are filled from them.

M members, N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ensemble.average import WEIGHT_TOLERANCE, check_members
from ensemble.bags import AnyBag, Bag, LogLossBag, TrueClassBag
from ensemble.decision_bag import DecisionBag, read
from ensemble.kernels import readable, readable_probabilities
from ensemble.kernels_log_loss import highest_bits
from ensemble.kernels_read import true_class_bits
from ensemble.metrics import LOG_LOSS, Metric, check_row_weights

MakeBag = Callable[[NDArray[np.int64], NDArray[np.float64] | None], Bag]


@dataclass(frozen=True, eq=False)
class Candidates:
    """`p_true` (M, N): the probability of each row's true class, float32 or float64. `probs`
    (M, N, C): all of them, None where the metric needs no more than `p_true`."""

    p_true: np.ndarray
    probs: np.ndarray | None
    make_bag: MakeBag

    @property
    def n_rows(self) -> int:
        return self.p_true.shape[1]

    def check_row_weights(self, row_weights: np.ndarray | None) -> None:
        check_row_weights(row_weights, self.n_rows)

    def bag(
        self,
        members: NDArray[np.int64] | None = None,
        row_weights: np.ndarray | None = None,
    ) -> Bag:
        """An empty bag that `members` (default all) may join, judged with `row_weights` (N,).
        Raises ValueError unless those are finite, non-negative and not all zero."""
        self.check_row_weights(row_weights)
        weights = None if row_weights is None else readable(row_weights.astype(np.float64))
        return self.make_bag(np.arange(len(self.p_true)) if members is None else members, weights)


def candidates_from_true_class(p_true: np.ndarray, metric: Metric) -> Candidates:
    """Of `p_true` (M, N), for a metric that needs no more. float32 and float64 are not copied if
    C-contiguous. Raises ValueError on another shape, on what is no probability, and for a metric
    that needs more."""
    if metric.from_true_class is None:
        raise ValueError(f"{metric.name} needs more than the true class's probability")
    if p_true.ndim != 2 or not p_true.size:
        raise ValueError(
            f"expected the true class's probabilities of shape (members, rows), got {p_true.shape}"
        )
    p_true = readable_probabilities(p_true)
    if highest_bits(p_true.view(_unsigned(p_true)).ravel()) > _limit(p_true):
        check_members(p_true[:, :, None])
    kind = LogLossBag if metric.from_true_class is LOG_LOSS.from_true_class else TrueClassBag
    return Candidates(p_true, None, partial(kind, p_true, metric))


def candidates(probs: np.ndarray, labels: np.ndarray, metric: Metric) -> Candidates:
    """Of `probs` (M, N, C) and `labels` (N,), by the fastest way there is for `metric`. float32
    and float64 are not copied if C-contiguous. Raises ValueError on a shape mismatch, an unknown
    label, or what is no probability."""
    if not _fits(probs, labels):
        check_members(probs, labels)
    probs, labels = readable_probabilities(probs), readable(labels.astype(np.int64))
    if metric.from_true_class is None and metric.from_decisions is not None:
        return _for_decisions(probs, labels, metric)
    p_true, largest = _true_class(probs, labels)
    if largest > _limit(probs):
        check_members(probs, labels)
    if metric.from_true_class is not None:
        return candidates_from_true_class(p_true, metric)
    return Candidates(p_true, probs, partial(AnyBag, probs, labels, p_true, metric))


def _for_decisions(probs: np.ndarray, labels: NDArray[np.int64], metric: Metric) -> Candidates:
    of, largest = read(probs, labels)
    if largest > _limit(probs):
        check_members(probs, labels)
        # Nothing is wrong but the sign of some zero, which has the highest bits of all.
        of, _ = read(readable(np.abs(probs)), labels)
    return Candidates(of.p_true, of.probs, partial(DecisionBag, of, labels, metric))


def _fits(probs: np.ndarray, labels: np.ndarray) -> bool:
    return bool(
        probs.ndim == 3
        and probs.size
        and labels.shape == probs.shape[1:2]
        and labels.min() >= 0
        and labels.max() < probs.shape[2]
    )


def _true_class(probs: np.ndarray, labels: NDArray[np.int64]) -> tuple[np.ndarray, int]:
    bits = probs.view(_unsigned(probs))
    p_true = np.empty(probs.shape[:2], bits.dtype)
    largest = true_class_bits(bits, labels, p_true)
    return readable(p_true.view(probs.dtype)), int(largest)


def _unsigned(probs: np.ndarray) -> np.dtype:
    return np.dtype(f"u{probs.itemsize}")


def _limit(probs: np.ndarray) -> int:
    """The bits of the highest number that counts as a probability."""
    return int(np.array(1.0 + WEIGHT_TOLERANCE, probs.dtype).view(_unsigned(probs)))
