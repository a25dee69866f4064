"""How often a prediction is right that says it is so and so sure.

Reliability diagram and expected calibration error of the top label: Guo, Pleiss, Sun and
Weinberger, "On calibration of modern neural networks", ICML 2017, section 2; bins of equal counts
after Nguyen and O'Connor, "Posterior calibration and exploratory analysis for natural language
processing models", EMNLP 2015.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.metrics import check_labelled, check_row_weights

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Per bin, all (bins,) float64: its edges `low` and `high`, the mean `confidence` and the
    `accuracy` of its rows (NaN where it has none), and their `count`, the sum of row weights."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.float64]

    def __post_init__(self) -> None:
        for values in (self.low, self.high, self.confidence, self.accuracy, self.count):
            values.setflags(write=False)

    @property
    def ece(self) -> float:
        """Expected calibration error, 0 to 1: the mean of |accuracy - confidence| over rows."""
        filled = self.count > 0
        return float(self.count[filled] @ self._gaps() / self.count.sum())

    @property
    def mce(self) -> float:
        """Maximum calibration error, 0 to 1: the largest |accuracy - confidence| of a bin."""
        return float(self._gaps().max())

    def _gaps(self) -> NDArray[np.float64]:
        filled = self.count > 0
        return np.asarray(np.abs(self.accuracy[filled] - self.confidence[filled]))


def reliability(
    labels: np.ndarray,
    proba: np.ndarray,
    *,
    bins: int = BINS,
    adaptive: bool = False,
    row_weights: np.ndarray | None = None,
) -> Reliability:
    """Confidence and accuracy of the most probable class of `proba` (N, C), binned by confidence.

    `labels`: (N,), all known. Bins are of equal width, (0, 1/15], (1/15, 2/15] and so on; with
    `adaptive` of equal counts as near as equal confidences allow, which stay together, and their
    edges are the least and the greatest confidence in them (NaN where there is none).
    `row_weights`: (N,), None for all 1. Raises ValueError on a shape mismatch, NaN, an unknown
    label, impossible row weights or less than one bin.
    """
    check_labelled(labels, proba)
    decided = proba.argmax(axis=1)
    confidence = proba[np.arange(len(labels)), decided]
    return binned(
        confidence, decided == labels, bins=bins, adaptive=adaptive, row_weights=row_weights
    )


def binned(
    confidence: np.ndarray,
    right: np.ndarray,
    *,
    bins: int = BINS,
    adaptive: bool = False,
    row_weights: np.ndarray | None = None,
) -> Reliability:
    """`reliability` of rows of which no more is known than the `confidence` (N,) in what was
    decided and whether that was `right` (N,)."""
    check_row_weights(row_weights, len(confidence))
    if bins < 1:
        raise ValueError(f"expected at least one bin, got {bins}")
    sure = confidence.astype(np.float64)
    weights = np.ones(len(sure)) if row_weights is None else row_weights.astype(np.float64)
    bin_of = _equal_counts(sure, weights, bins) if adaptive else _equal_width(sure, bins)
    low, high = _extremes(sure, bin_of, weights, bins) if adaptive else _edges(bins)
    count = np.bincount(bin_of, weights=weights, minlength=bins).astype(np.float64)
    hits = np.bincount(bin_of, weights=weights * right, minlength=bins)
    said = np.bincount(bin_of, weights=weights * sure, minlength=bins)
    some = np.where(count > 0, count, np.nan)
    return Reliability(low, high, said / some, hits / some, count)


def _equal_width(confidence: np.ndarray, bins: int) -> NDArray[np.intp]:
    return np.clip(np.ceil(confidence * bins).astype(np.intp) - 1, 0, bins - 1)


def _edges(bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    edges = np.arange(bins + 1) / bins
    return edges[:-1].copy(), edges[1:].copy()


def _equal_counts(confidence: np.ndarray, weights: np.ndarray, bins: int) -> NDArray[np.intp]:
    """The bin in which the middle of all rows of the same confidence lies."""
    values, value_of = np.unique(confidence, return_inverse=True)
    share = np.bincount(value_of, weights=weights, minlength=len(values)) / weights.sum()
    middle = np.cumsum(share) - share / 2.0
    return np.clip((middle * bins).astype(np.intp), 0, bins - 1)[value_of]


def _extremes(
    confidence: np.ndarray, bin_of: np.ndarray, weights: np.ndarray, bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = np.full(bins, np.inf), np.full(bins, -np.inf)
    counts = weights > 0
    np.minimum.at(low, bin_of[counts], confidence[counts])
    np.maximum.at(high, bin_of[counts], confidence[counts])
    empty = ~np.isfinite(low)
    low[empty] = high[empty] = np.nan
    return low, high
