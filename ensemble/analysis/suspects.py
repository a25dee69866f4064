"""Rows whose label is probably wrong, the most suspicious first.

Two witnesses. Confident learning (Northcutt, Jiang, Chuang 2021, Confident Learning: Estimating
Uncertainty in Dataset Labels, JAIR 70) over the nested blend, by cleanlab: a row is confidently of
another class when that class's probability reaches the mean that rows labelled so get. And
unanimity: every member is wrong about the row and each is sure by that same measure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble.analysis.decisions import Decisions
from ensemble.analysis.inputs import Analysed, Columns

MAX_SUSPECTS = 1000
ROUNDING = 1e-6  # a probability this close to a threshold has reached it, as in cleanlab


def suspects(given: Analysed, decisions: Decisions) -> Columns:
    """At most `MAX_SUSPECTS` rows. Those that both witnesses name come first, then those of
    confident learning, then those of all members; within each the widest margin first.

    suggested          the most probable other class by the nested blend
    p_label            of the nested blend, as `p_suggested`; `margin` is p_suggested - p_label
    members_wrong      how many of the `members` decide for another class
    all_wrong          every member is wrong and sure of its decision
    confident_learning named by confident learning
    """
    learned = confident_learning(given.labels, given.blend)
    unanimous = wrong_and_sure(given, decisions)
    found = np.flatnonzero(learned | unanimous)
    suggested, p_suggested = _most_probable_other(given.blend[found], given.labels[found])
    p_label = decisions.blend.p_true[found].astype(np.float64)
    margin = p_suggested - p_label
    tier = np.where(learned & unanimous, 0, np.where(learned, 1, 2))[found]
    ranked = sorted(range(len(found)), key=lambda i: (tier[i], -margin[i], given.ids[found[i]]))
    order = np.array(ranked[:MAX_SUSPECTS], dtype=np.intp)
    rows = found[order]
    wrong = np.count_nonzero(decisions.decided[:, rows] != given.labels[rows], axis=0)
    return {
        "rank": np.arange(1, len(rows) + 1),
        "id": given.ids[rows],
        "label": given.class_names(given.labels[rows]),
        "suggested": given.class_names(suggested[order]),
        "p_label": p_label[order],
        "p_suggested": p_suggested[order],
        "margin": margin[order],
        "members_wrong": wrong,
        "members": np.full(len(rows), given.n_members),
        "all_wrong": unanimous[rows],
        "confident_learning": learned[rows],
    }


def confident_learning(labels: np.ndarray, proba: np.ndarray) -> NDArray[np.bool_]:
    """(N,): which rows of `proba` (N, C), out of fold, confident learning says are mislabelled.

    A class without rows has no threshold to reach: no row is confidently of it. Where all rows
    have one class there is nothing to compare: no row is named.
    """
    if len(np.unique(labels)) < 2:
        return np.zeros(len(labels), dtype=bool)
    from cleanlab.filter import find_label_issues  # takes seconds, and only this table needs it

    found = find_label_issues(
        labels.astype(np.int64), proba, filter_by="confident_learning", n_jobs=1, verbose=False
    )
    return np.asarray(found, dtype=bool)


def wrong_and_sure(given: Analysed, decisions: Decisions) -> NDArray[np.bool_]:
    """(N,): rows that every member gets wrong, giving its decision at least the mean probability
    that it gives to the label on the rows of that class. Of a class without rows no member can
    be sure."""
    rows = np.bincount(given.labels, minlength=given.n_classes)
    holds = np.ones(given.n_rows, dtype=bool)
    for index in range(given.n_members):
        member = decisions.member(index)
        total = np.bincount(given.labels, weights=member.p_true, minlength=given.n_classes)
        threshold = np.divide(total, rows, out=np.full(len(rows), np.inf), where=rows > 0)
        holds &= member.decided != given.labels
        holds &= member.confidence >= threshold[member.decided] - ROUNDING
    return holds


def _most_probable_other(
    proba: np.ndarray, labels: np.ndarray
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The most probable class that is not the label, and its probability."""
    others = proba.astype(np.float64)
    every = np.arange(len(labels))
    others[every, labels] = -1.0
    best = others.argmax(axis=1)
    return best, np.maximum(others[every, best], 0.0)  # -1 is left where there is one class only
