"""The ways to combine members, by name, from the simplest to the one that learns most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.bagged import bagged_from_true_class, bagged_greedy
from ensemble.class_weights import fit_class_weights
from ensemble.combine import Combination
from ensemble.convex import fit_convex
from ensemble.errors import BlendError
from ensemble.greedy import greedy_from_true_class, greedy_weights
from ensemble.metrics import Metric
from ensemble.rank_mean import fit_rank_grid
from ensemble.scratch import MEMORY_BYTES, empty_array
from ensemble.single import best_single
from ensemble.stacking import fit_stacking, stacking_shares
from ensemble.swap import swap_from_true_class, swap_weights

BAG_SEED = 0


@dataclass(frozen=True, eq=False)
class FitRows:
    """The rows that a method may learn from, and nothing of any other row.

    labels       (R,) int
    p_true       (M, R) float32, after the members' temperatures
    probs        (M, R, C) float32, or M arrays (R, C), after the members' temperatures; None
                 where not needed
    row_weights  (R,) float64 or None
    memory_bytes  of one array, before a file takes its place
    """

    labels: NDArray[np.int32]
    p_true: NDArray[np.float32]
    probs: NDArray[np.float32] | Sequence[NDArray[np.float32]] | None
    row_weights: NDArray[np.float64] | None
    metric: Metric
    greedy_steps: int = 25
    l2: float = 0.0
    memory_bytes: int = MEMORY_BYTES

    @property
    def n_members(self) -> int:
        return len(self.p_true)

    def weighted(self, row_weights: NDArray[np.float64]) -> FitRows:
        """The same rows with other weights (R,)."""
        return replace(self, row_weights=row_weights)

    def without(self, member: int) -> FitRows:
        """The same rows of all members but one; nothing is copied but the true class's column."""
        kept = None
        if self.probs is not None:
            kept = [proba for index, proba in enumerate(self.probs) if index != member]
        return replace(self, p_true=np.delete(self.p_true, member, axis=0), probs=kept)

    @property
    def whole(self) -> NDArray[np.float32]:
        if self.probs is None:
            raise BlendError(
                "this method needs the probabilities of all classes, and only those of the true "
                f"class were read: choose one of {', '.join(TRUE_CLASS_METHODS)} with log_loss"
            )
        if isinstance(self.probs, np.ndarray):
            return self.probs
        shape = (len(self.probs), *self.probs[0].shape)
        out = empty_array(shape, np.float32, memory_bytes=self.memory_bytes)
        for proba, row in zip(self.probs, out, strict=True):
            row[:] = proba
        return out


@dataclass(frozen=True)
class Method:
    """One way. `fit` learns a combination from rows. `needs`: what of their probabilities:
    "nothing", "metric" (whole rows unless the true class is enough for the metric), "true_class"
    or "rows". `combines`: whether whole rows are needed to predict even the true class."""

    name: str
    fit: Callable[[FitRows], Combination]
    needs: str = "rows"
    combines_rows: bool = True
    learns_weights: bool = False

    def needs_rows(self, metric: Metric) -> bool:
        """Whether fitting for `metric` reads more than each row's true class."""
        return self.needs == "rows" or (self.needs == "metric" and metric.from_true_class is None)


def _equal(n_members: int) -> NDArray[np.float64]:
    return np.full(n_members, 1.0 / n_members)


def _without_weights(rows: FitRows, kind: str) -> Combination:
    return Combination(kind, _equal(rows.n_members))


def _single(rows: FitRows) -> Combination:
    source = rows.p_true if rows.metric.from_true_class else rows.whole
    return Combination(
        "mean", best_single(source, rows.labels, rows.metric, row_weights=rows.row_weights)
    )


def _greedy(rows: FitRows) -> Combination:
    options: dict[str, Any] = {"steps": rows.greedy_steps, "row_weights": rows.row_weights}
    if rows.metric.from_true_class:
        return Combination("mean", greedy_from_true_class(rows.p_true, rows.metric, **options))
    return Combination("mean", greedy_weights(rows.whole, rows.labels, rows.metric, **options))


def _bagged(rows: FitRows) -> Combination:
    options: dict[str, Any] = {
        "steps": rows.greedy_steps,
        "row_weights": rows.row_weights,
        "seed": BAG_SEED,
    }
    if rows.metric.from_true_class:
        return Combination("mean", bagged_from_true_class(rows.p_true, rows.metric, **options))
    return Combination("mean", bagged_greedy(rows.whole, rows.labels, rows.metric, **options))


def _swap(rows: FitRows) -> Combination:
    options: dict[str, Any] = {"steps": rows.greedy_steps, "row_weights": rows.row_weights}
    if rows.metric.from_true_class:
        return Combination("mean", swap_from_true_class(rows.p_true, rows.metric, **options))
    return Combination("mean", swap_weights(rows.whole, rows.labels, rows.metric, **options))


def _convex(rows: FitRows) -> Combination:
    weights, _ = fit_convex(rows.p_true, l2=rows.l2, row_weights=rows.row_weights)
    return Combination("mean", weights)


def _rank_mean(rows: FitRows) -> Combination:
    grid = fit_rank_grid(rows.whole, row_weights=rows.row_weights)
    return Combination("rank_mean", _equal(rows.n_members), {"grid": grid})


def _class_mean(rows: FitRows) -> Combination:
    matrix = fit_class_weights(rows.whole, rows.labels, row_weights=rows.row_weights)
    return Combination(
        "class_mean", matrix.mean(axis=1) / matrix.mean(axis=1).sum(), {"class_weights": matrix}
    )


def _stacking(rows: FitRows) -> Combination:
    coef, intercept = fit_stacking(rows.whole, rows.labels, row_weights=rows.row_weights)
    return Combination("stacking", stacking_shares(coef), {"coef": coef, "intercept": intercept})


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("best_single", _single, "metric", combines_rows=False, learns_weights=True),
            Method("equal", partial(_without_weights, kind="mean"), "nothing", combines_rows=False),
            Method("log_mean", partial(_without_weights, kind="log_mean"), "nothing"),
            Method("rank_mean", _rank_mean),
            Method("vote", partial(_without_weights, kind="vote"), "nothing"),
            Method("convex", _convex, "true_class", combines_rows=False, learns_weights=True),
            Method("greedy", _greedy, "metric", combines_rows=False, learns_weights=True),
            Method("bagged", _bagged, "metric", combines_rows=False, learns_weights=True),
            Method("swap", _swap, "metric", combines_rows=False, learns_weights=True),
            Method("class_mean", _class_mean),
            Method("stacking", _stacking),
        )
    }
)
AUTO = ("equal", "log_mean", "convex", "greedy")
TRUE_CLASS_METHODS = tuple(name for name, method in METHODS.items() if not method.combines_rows)


def get_method(name: str) -> Method:
    """The method of that name. Raises ValueError with the nearest name."""
    if name in METHODS:
        return METHODS[name]
    nearest = get_close_matches(name, METHODS, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise BlendError(
        f"unknown blend method {name!r}, expected auto or some of {', '.join(METHODS)}{hint}"
    )


def by_simplicity(names: tuple[str, ...]) -> tuple[str, ...]:
    """The named methods, each once, the simplest first; "auto" stands for AUTO.

    Raises ValueError for an unknown name or none at all."""
    wanted = set()
    for name in names:
        wanted |= set(AUTO) if name == "auto" else {get_method(name).name}
    if not wanted:
        raise ValueError(f"expected auto or some of {', '.join(METHODS)}, got no blend method")
    return tuple(name for name in METHODS if name in wanted)
