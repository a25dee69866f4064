"""The programs that foldblend's blender is measured against, each run as it is shipped."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from ensemble.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, PROBABILITY_FLOOR

AUTOGLUON = {"log_loss": "log_loss", "accuracy": "accuracy", "macro_f1": "f1_macro"}
SLSQP_TOLERANCES = (1e-6, 1e-8, 1e-10, 1e-12)  # the first is SciPy's own default


@dataclass(frozen=True)
class Order:
    """The models that a greedy selection took, step after step."""

    order: tuple[int, ...]

    def weights(self, n_models: int, steps: int | None = None) -> NDArray[np.float64]:
        """(M,) after the first `steps`, all by default."""
        taken = np.asarray(self.order[:steps])
        return np.bincount(taken, minlength=n_models) / len(taken)


def autogluon_greedy(probs: np.ndarray, labels: np.ndarray, metric: str, steps: int) -> Order:
    """AutoGluon's `EnsembleSelection` on `probs` (M, N, C), with its own defaults. All steps are
    kept, not only those up to its best prefix, so that equal numbers of steps are compared."""
    from autogluon.core import metrics

    return _selected(list(probs), labels, getattr(metrics, AUTOGLUON[metric]), "multiclass", steps)


def autogluon_true_class(p_true: np.ndarray, steps: int) -> Order:
    """The same class, fed `p_true` (M, N): what autogluon/tabrepo does. Its own code runs
    unchanged, on N numbers a model; the metric is the shortest that numpy allows."""
    from autogluon.core.metrics import make_scorer

    scorer = make_scorer(
        "true_class_log_loss", _mean_log_loss, optimum=0, greater_is_better=False, needs_proba=True
    )
    labels = np.ones(p_true.shape[1], dtype=np.int64)  # unused: the labels are in p_true already
    return _selected(list(p_true), labels, scorer, "binary", steps)


def _mean_log_loss(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    return float(-np.log(y_pred.clip(1e-15)).mean())


def _selected(
    predictions: list[np.ndarray],
    labels: np.ndarray,
    metric: object,
    problem_type: str,
    steps: int,
) -> Order:
    from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection

    logging.getLogger("autogluon").setLevel(logging.ERROR)
    selection = EnsembleSelection(ensemble_size=steps, problem_type=problem_type, metric=metric)
    selection.use_best = False
    selection.fit(predictions, labels, identifiers=None)
    return Order(tuple(int(model) for model in selection.indices_))


def numpy_greedy(p_true: np.ndarray, steps: int) -> Order:
    """The same selection without anybody's class around it, on `p_true` (M, N)."""
    rows = p_true.astype(np.float64)
    total = np.zeros(rows.shape[1])
    order = []
    for _ in range(steps):
        best = int(np.argmax([np.log(total + row).sum() for row in rows]))
        total += rows[best]
        order.append(best)
    return Order(tuple(order))


@dataclass(frozen=True)
class Optimum:
    """Weights (M,) and the tolerance that they were asked for."""

    weights: NDArray[np.float64]
    tolerance: float


def slsqp(rows: NDArray[np.float64], tolerance: float) -> Optimum:
    """SciPy's SLSQP with the analytic gradient on `rows` (N, M), from equal weights."""
    n_models = rows.shape[1]

    def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
        blend = np.maximum(rows @ weights, 1e-12)
        return -float(np.log(blend).mean()), -((1.0 / blend) @ rows) / len(rows)

    found = minimize(
        loss_and_gradient,
        np.full(n_models, 1.0 / n_models),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * n_models,
        constraints={
            "type": "eq",
            "fun": lambda weights: weights.sum() - 1.0,
            "jac": lambda weights: np.ones(n_models),
        },
        options={"ftol": tolerance, "maxiter": 1000},
    )
    weights = np.maximum(found.x, 0.0)
    return Optimum(weights / weights.sum(), tolerance)


def scipy_temperature(proba: np.ndarray, labels: np.ndarray) -> float:
    """SciPy's bounded one-dimensional minimiser (default tolerance) over log T of the plain numpy
    log loss of `proba` (N, C). The logarithms are taken once, in float64 as by our own floor."""
    logits = np.log(np.maximum(proba, PROBABILITY_FLOOR, dtype=np.float64))
    logits -= logits.max(axis=1, keepdims=True)
    true = logits[np.arange(len(labels)), labels]

    def loss(log_t: float) -> float:
        scaled = logits * np.exp(-log_t)
        np.exp(scaled, out=scaled)
        return float(np.mean(np.log(scaled.sum(axis=1))) - true.mean() * np.exp(-log_t))

    bounds = (np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def autogluon_temperature(proba: np.ndarray, labels: np.ndarray) -> float | None:
    """AutoGluon's own. Raises ImportError where torch is missing, which it needs for this."""
    import torch  # noqa: F401  its absence is otherwise reported in a paragraph
    from autogluon.core.calibrate.temperature_scaling import tune_temperature_scaling

    return tune_temperature_scaling(proba, labels)
