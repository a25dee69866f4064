"""Classes that should perhaps be one: pairs that the blend takes for each other.

A table is evidence, not a verdict: two classes may be told apart by what the models were not
shown. An AUC near 0.5 says that the probabilities hold nothing to tell them apart by.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ensemble.analysis.confusion import pairs_of
from ensemble.analysis.decisions import Decisions
from ensemble.analysis.inputs import Analysed, Columns

MIN_MUTUAL = 0.1
MIN_CONFUSIONS = 3  # rows, both directions together


def mergeable(given: Analysed, decisions: Decisions) -> Columns:
    """Pairs of classes by `mutual`, largest first. Both have rows, at least `MIN_CONFUSIONS` rows
    of one are taken for the other, and `mutual` is at least `MIN_MUTUAL`.

    a_as_b, b_as_a  share of the rows of one class that the blend decides as the other
    mutual          the mean of both shares, whatever the sizes of the classes
    auc             how well p_a / (p_a + p_b) of the blend ranks the rows of a above those of b:
                    1 perfectly, 0.5 not at all; a row with neither probability counts as 1/2
    """
    size = np.bincount(given.labels, minlength=given.n_classes)
    first, second, as_second, as_first = _confused_both_ways(given, decisions)
    judged = (size[first] > 0) & (size[second] > 0)
    judged &= as_second + as_first >= MIN_CONFUSIONS
    first, second = first[judged], second[judged]
    a_as_b, b_as_a = as_second[judged] / size[first], as_first[judged] / size[second]
    mutual = (a_as_b + b_as_a) / 2
    kept = np.flatnonzero(mutual >= MIN_MUTUAL)
    kept = kept[np.lexsort((second[kept], first[kept], -mutual[kept]))]
    by_label = _RowsByLabel(given.labels, given.n_classes)
    return {
        "class_a": given.class_names(first[kept]),
        "class_b": given.class_names(second[kept]),
        "rows_a": size[first[kept]],
        "rows_b": size[second[kept]],
        "a_as_b": a_as_b[kept],
        "b_as_a": b_as_a[kept],
        "mutual": mutual[kept],
        "auc": [_separation(given.blend, by_label, first[i], second[i]) for i in kept],
    }


class _RowsByLabel:
    def __init__(self, labels: np.ndarray, n_classes: int) -> None:
        self.order = np.argsort(labels, kind="stable")
        self.ends = np.cumsum(np.bincount(labels, minlength=n_classes))

    def __getitem__(self, label: int) -> NDArray[np.intp]:
        start = self.ends[label - 1] if label else 0
        return self.order[start : self.ends[label]]


def _confused_both_ways(
    given: Analysed, decisions: Decisions
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unordered pairs that occur: first < second, rows of first decided as second, and back."""
    pairs = pairs_of(given.labels, decisions.blend, given.n_classes)
    wrong = pairs.true != pairs.predicted
    true, predicted, count = pairs.true[wrong], pairs.predicted[wrong], pairs.count[wrong]
    low, high = np.minimum(true, predicted), np.maximum(true, predicted)
    codes, pair_of = np.unique(low * given.n_classes + high, return_inverse=True)
    upward = true < predicted
    as_second = np.bincount(pair_of, weights=count * upward, minlength=len(codes))
    as_first = np.bincount(pair_of, weights=count * ~upward, minlength=len(codes))
    return codes // given.n_classes, codes % given.n_classes, as_second, as_first


def _separation(blend: np.ndarray, rows: _RowsByLabel, first: int, second: int) -> float:
    """The area under the ROC curve, from the ranks (Mann and Whitney 1947)."""
    of_first, of_second = rows[first], rows[second]
    where = np.concatenate([of_first, of_second])
    p_first = blend[where, first].astype(np.float64)
    both = p_first + blend[where, second]
    ratio = np.divide(p_first, both, out=np.full(len(where), 0.5), where=both > 0)
    above = rankdata(ratio)[: len(of_first)].sum() - len(of_first) * (len(of_first) + 1) / 2
    return float(above / (len(of_first) * len(of_second)))
