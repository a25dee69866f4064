"""How alike two members are: a blend gains from members whose errors differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble.analysis.decisions import Decisions
from ensemble.analysis.inputs import Analysed, Columns
from ensemble.metrics import row_log_loss


def agreement(given: Analysed, decisions: Decisions) -> Columns:
    """One row per pair of members, in their order.

    agreement          share of rows with the same decision
    error_correlation  Pearson, of right and wrong as 0 and 1; null where one of the two members
                       is right, or wrong, on every row
    both_wrong         share of rows that both get wrong
    same_wrong         share of rows that both take for the same wrong class
    loss_correlation   Pearson, of the rows' log losses; null where one has the same on every row
    """
    wrong = decisions.decided != given.labels
    first, second = np.triu_indices(given.n_members, k=1)
    same, same_wrong = _equal_decisions(decisions.decided, wrong)
    both = _products(wrong.astype(np.float64))[first, second]
    losses = np.stack([row_log_loss(p_true) for p_true in decisions.p_true])
    names = np.array(given.names, dtype=object)
    return {
        "member_a": names[first],
        "member_b": names[second],
        "agreement": same / given.n_rows,
        "error_correlation": pearson(wrong.astype(np.float64))[first, second],
        "both_wrong": both / given.n_rows,
        "same_wrong": same_wrong / given.n_rows,
        "loss_correlation": pearson(losses)[first, second],
    }


def pearson(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, N) to (M, M): the correlation of every two rows. NaN where one is constant. Overwrites
    `values`, which may be large."""
    constant = values.min(axis=1) == values.max(axis=1)
    values -= values.mean(axis=1, keepdims=True)
    products = _products(values)
    scale = np.sqrt(np.diagonal(products))
    scale = np.where(constant, np.nan, scale)  # centring leaves rounding errors, not zeros
    return np.clip(products / np.outer(scale, scale), -1.0, 1.0)


def _products(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values @ values.T


def _equal_decisions(
    decided: np.ndarray, wrong: np.ndarray
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every pair a < b, in the order of `triu_indices`: rows decided alike, and of those the
    wrong ones."""
    same, same_wrong = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for a in range(len(decided) - 1):
        equal = decided[a + 1 :] == decided[a]
        same.append(np.count_nonzero(equal, axis=1))
        same_wrong.append(np.count_nonzero(equal[:, wrong[a]], axis=1))
    return np.concatenate(same), np.concatenate(same_wrong)
