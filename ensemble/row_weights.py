"""Row weights (sample weights) as shares of the whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble.metrics import check_row_weights


def row_shares(row_weights: np.ndarray | None, n_rows: int) -> NDArray[np.float64]:
    """(n_rows,) float64, non-negative, summing to 1: each row's share of a weighted mean. None
    counts all rows the same. Raises ValueError unless the weights are (n_rows,), finite,
    non-negative and not all zero."""
    check_row_weights(row_weights, n_rows)
    if row_weights is None:
        return np.full(n_rows, 1.0 / n_rows)
    # Divided by the largest first: a sum of huge weights stays finite.
    shares = row_weights / np.float64(row_weights.max())
    return np.asarray(shares / shares.sum(), dtype=np.float64)
