"""Hierarchical inference: a second blend inside a group of classes that are often confused.

The first blend says how probable the group is; within it, a blend of its own, fitted only on rows
of the group, says which class. Members differ in what they tell apart: the one that is best over
500 classes need not be the one that knows 403 from 404.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ensemble.convex import fit_convex
from ensemble.errors import BlendError
from ensemble.metrics import LOG_LOSS_FLOOR

MIN_ROWS = 20  # of the group's labels; fewer cannot carry weights of their own
MUTUAL = 0.1  # mean share of two classes' rows that go to the other one, for them to be one group


def fit_group(
    probs: Sequence[np.ndarray] | np.ndarray,
    labels: np.ndarray,
    classes: Sequence[int],
    row_weights: np.ndarray | None = None,
) -> NDArray[np.float64]:
    """Weights (M,) of least log loss among `classes` (G,), fitted on the rows with such labels.

    `probs`: (M, R, C), `labels`: (R,). Equal weights where fewer than 20 rows of row weight above 0
    have such a label.
    """
    inside = np.isin(labels, classes)
    rows = np.flatnonzero(inside if row_weights is None else inside & (row_weights > 0))
    if len(rows) < MIN_ROWS:
        return np.full(len(probs), 1.0 / len(probs))
    where = np.searchsorted(np.sort(classes), labels[rows])
    p_true = np.empty((len(probs), len(rows)))
    for member, proba in enumerate(probs):
        shares = _within(proba[rows][:, np.sort(classes)])
        p_true[member] = shares[np.arange(len(rows)), where]
    weights, _ = fit_convex(p_true, row_weights=None if row_weights is None else row_weights[rows])
    return weights


def divide_anew(
    proba: np.ndarray,
    probs: Sequence[np.ndarray | None] | np.ndarray,
    classes: Sequence[int],
    weights: np.ndarray,
) -> NDArray[np.float64]:
    """`proba` (n, C) with what it gives to `classes` together divided by the second blend of the
    members `probs` (M, n, C), of which those of weight 0 may be None. Returns (n, C) float64."""
    inside = sum(
        weight * _within(np.asarray(each)[:, list(classes)])
        for weight, each in zip(weights, probs, strict=True)
        if weight > 0 and each is not None
    )
    out = np.array(proba, dtype=np.float64)
    mass = out[:, list(classes)].sum(axis=1, keepdims=True)
    out[:, list(classes)] = mass * inside
    return out


def confused_groups(
    labels: np.ndarray,
    decided: np.ndarray,
    n_classes: int,
    *,
    mutual: float = MUTUAL,
    row_weights: np.ndarray | None = None,
) -> tuple[tuple[int, ...], ...]:
    """Classes joined by pairs of which on average at least `mutual` of the rows (of their weight)
    go to the other one; each group ascending. `labels`, `decided`: (R,) class indices."""
    weights = np.ones(len(labels)) if row_weights is None else row_weights
    counts = coo_array((weights, (labels, decided)), shape=(n_classes, n_classes)).tocsr()
    rows = np.bincount(labels, weights=weights, minlength=n_classes)
    shares = counts.multiply(1.0 / np.where(rows > 0, rows, 1.0)[:, None]).tocsr()
    both = ((shares + shares.T) * 0.5).tocoo()
    joined = (both.data >= mutual) & (both.row != both.col)
    graph = coo_array(
        (np.ones(int(joined.sum())), (both.row[joined], both.col[joined])),
        shape=(n_classes, n_classes),
    )
    _, component = connected_components(graph, directed=False)
    groups = [np.flatnonzero(component == one) for one in np.unique(component)]
    return tuple(tuple(int(c) for c in group) for group in groups if len(group) > 1)


def named_groups(
    groups: Sequence[Sequence[str]], classes: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Class names as indices, each group ascending. Raises BlendError for an unknown class, a
    group of fewer than two, or a class in two groups."""
    index = {name: i for i, name in enumerate(classes)}
    seen: set[str] = set()
    for group in groups:
        if len(set(group)) < 2:
            raise BlendError(
                f"expected at least two classes in a group, got {', '.join(group) or 'none'}"
            )
        for name in group:
            if name not in index:
                nearest = get_close_matches(name, classes, n=1)
                hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
                raise BlendError(f"group {', '.join(group)}: no class {name!r}{hint}")
            if name in seen:
                raise BlendError(f"expected every class in one group, got {name!r} twice")
            seen.add(name)
    return tuple(tuple(sorted({index[name] for name in group})) for group in groups)


def _within(columns: np.ndarray) -> NDArray[np.float64]:
    """Rows renormalised to 1; equal shares where a member gives the group nothing."""
    floored = np.maximum(columns, LOG_LOSS_FLOOR, dtype=np.float64)
    return np.asarray(floored / floored.sum(axis=1, keepdims=True))
