"""Accuracy and macro-F1 of many members from the decisions that each of them changes, compiled.

M members, N rows, C classes. Rows count in whole units: sums are exact, so that equal scores are
equal numbers, in whatever order rows and changes come. `decided` (m, N) int32 are the decisions
of members alone; `top` (N,) int32 those of the combination at hand, and `flips` (f, 3) int32 what
a further member changes in them: its position, the row, the new class.
"""

from __future__ import annotations

import numpy as np

from ensemble.kernels import compiled, inlined


@compiled()
def correct_alone(decided: np.ndarray, labels: np.ndarray, units: np.ndarray) -> np.ndarray:
    """(m,) int64: `units` (N,) int64 of the rows that each of `decided` (m, N) has right."""
    correct = np.zeros(len(decided), np.int64)
    for i in range(len(decided)):
        for n in range(labels.size):
            if decided[i, n] == labels[n]:
                correct[i] += units[n]
    return correct


@compiled()
def correct_after(
    n_members: int, flips: np.ndarray, top: np.ndarray, labels: np.ndarray, units: np.ndarray
) -> np.ndarray:
    """`correct_alone` of decisions `top` (N,) after each member's `flips` (f, 3)."""
    base = 0
    for n in range(labels.size):
        if top[n] == labels[n]:
            base += units[n]
    correct = np.full(n_members, base)
    for f in range(len(flips)):
        i, n, decided = flips[f]
        correct[i] += units[n] * (np.int64(decided == labels[n]) - np.int64(top[n] == labels[n]))
    return correct


@compiled()
def f1_alone(
    decided: np.ndarray, labels: np.ndarray, units: np.ndarray, n_classes: int
) -> np.ndarray:
    """(m,) float64: macro-F1 of each of `decided` (m, N), rows counting `units` (N,) each."""
    true = np.zeros(n_classes, np.int64)
    for n in range(labels.size):
        true[labels[n]] += units[n]
    predicted = np.zeros((len(decided), n_classes), np.int64)
    correct = np.zeros((len(decided), n_classes), np.int64)
    for i in range(len(decided)):
        for n in range(labels.size):
            predicted[i, decided[i, n]] += units[n]
            if decided[i, n] == labels[n]:
                correct[i, labels[n]] += units[n]
    return _f1(true, predicted, correct)


@compiled()
def f1_after(
    n_members: int,
    flips: np.ndarray,
    top: np.ndarray,
    labels: np.ndarray,
    units: np.ndarray,
    n_classes: int,
) -> np.ndarray:
    """`f1_alone` of decisions `top` (N,) after each member's `flips` (f, 3)."""
    true = np.zeros(n_classes, np.int64)
    predicted = np.zeros((n_members, n_classes), np.int64)
    correct = np.zeros((n_members, n_classes), np.int64)
    for n in range(labels.size):
        true[labels[n]] += units[n]
        predicted[0, top[n]] += units[n]
        if top[n] == labels[n]:
            correct[0, top[n]] += units[n]
    for i in range(1, n_members):  # copying whole rows takes numba seconds to compile
        for c in range(n_classes):
            predicted[i, c] = predicted[0, c]
            correct[i, c] = correct[0, c]
    for f in range(len(flips)):
        i, n, decided = flips[f]
        before, label, unit = top[n], labels[n], units[n]
        predicted[i, before] -= unit
        predicted[i, decided] += unit
        if before == label:
            correct[i, label] -= unit
        if decided == label:
            correct[i, label] += unit
    return _f1(true, predicted, correct)


@inlined()
def _f1(true: np.ndarray, predicted: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """The mean over classes that are present or predicted of 2 correct / (true + predicted)."""
    values = np.zeros(len(predicted))
    for i in range(len(predicted)):
        present = 0
        for c in range(true.size):
            both = true[c] + predicted[i, c]
            if both > 0:
                present += 1
                values[i] += 2.0 * correct[i, c] / both
        values[i] /= present
    return values
