"""Fitting on given rows: temperatures, every method's weights, the best single member; and
predicting from several such weights at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from ensemble.calibration import apply_temperature, fit_temperature
from ensemble.convex import fit_convex
from ensemble.greedy import greedy_from_true_class, greedy_weights
from ensemble.metrics import LOG_LOSS, Metric, true_class

METHODS = ("equal", "greedy", "convex")


@dataclass(frozen=True)
class MethodSettings:
    """What fitting needs to know. `methods`: at least one of equal, greedy, convex; where several
    are equally good the first is used."""

    metric: Metric
    methods: tuple[str, ...]
    calibrate: bool
    greedy_steps: int

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError(f"expected at least one method of {', '.join(METHODS)}, got none")
        for name in self.methods:
            if name not in METHODS:
                nearest = get_close_matches(name, METHODS, n=1)
                hint = f"; did you mean {nearest[0]}?" if nearest else ""
                raise ValueError(
                    f"unknown blend method {name!r}, expected one of {', '.join(METHODS)}{hint}"
                )
        if self.greedy_steps < 1:
            raise ValueError(f"expected at least one greedy step, got {self.greedy_steps}")


@dataclass(frozen=True, eq=False)
class Fits:
    """What was learnt from some rows, all of it small.

    temperatures  (M,) float64
    weights       (M,) float64 by method
    single        index of the member that is best alone after its temperature
    gaps          the convex certificate, by method, where the method has one
    """

    temperatures: NDArray[np.float64]
    weights: Mapping[str, NDArray[np.float64]]
    single: int
    gaps: Mapping[str, float]

    def single_weights(self) -> NDArray[np.float64]:
        weights = np.zeros(len(self.temperatures))
        weights[self.single] = 1.0
        return weights


def fit_methods(probs: np.ndarray, labels: np.ndarray, settings: MethodSettings) -> Fits:
    """Fit everything on these rows and no others. `probs`: (M, N, C), `labels`: (N,)."""
    temperatures = np.ones(len(probs))
    p_true = np.empty(probs.shape[:2])
    # Greedy selection on predicted classes needs whole rows; all else only the true class.
    whole = "greedy" in settings.methods and settings.metric.from_true_class is None
    tempered_probs = np.empty_like(probs) if whole else None
    ranks: list[tuple[float, float]] = []
    for member, proba in enumerate(probs):
        if settings.calibrate:
            temperatures[member] = fit_temperature(proba, labels)
        tempered = apply_temperature(proba, temperatures[member])
        p_true[member] = true_class(labels, tempered)
        ranks.append(rank(settings.metric, labels, tempered))
        if tempered_probs is not None:
            tempered_probs[member] = tempered
    weights: dict[str, NDArray[np.float64]] = {}
    gaps: dict[str, float] = {}
    for method in settings.methods:
        if method == "equal":
            weights[method] = np.full(len(probs), 1.0 / len(probs))
        elif method == "convex":
            weights[method], gaps[method] = fit_convex(p_true)
        elif tempered_probs is not None:
            weights[method] = greedy_weights(
                tempered_probs, labels, settings.metric, steps=settings.greedy_steps
            )
        else:
            weights[method] = greedy_from_true_class(
                p_true, settings.metric, steps=settings.greedy_steps
            )
    single = min(range(len(ranks)), key=ranks.__getitem__)
    return Fits(temperatures, weights, single, gaps)


def rank(metric: Metric, labels: np.ndarray, proba: np.ndarray) -> tuple[float, float]:
    """Sorts predictions from best to worst: by the metric, ties by log loss. Accuracy alone ties
    often, and what wins on it by chance may have a bad log loss."""
    return metric.loss(metric(labels, proba)), LOG_LOSS(labels, proba)


def predict_many(
    probs: np.ndarray, temperatures: np.ndarray, weights: Sequence[np.ndarray]
) -> NDArray[np.float64]:
    """Temper each member once and average it under each of Q weightings (M,). `probs`: (M, N, C).
    Returns (N, Q, C) float64. Members without weight cost nothing."""
    n_rows, n_classes = probs.shape[1:]
    out = np.zeros((n_rows, len(weights), n_classes))
    for member, proba in enumerate(probs):
        used = [(query, each[member]) for query, each in enumerate(weights) if each[member] > 0]
        if not used:
            continue
        tempered = apply_temperature(proba, temperatures[member])
        for query, weight in used:
            out[:, query] += weight * tempered
    return out
