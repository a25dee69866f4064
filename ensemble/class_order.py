"""Whether a metric's value depends on the order of the classes: which of two counts as positive, or
which are neighbours."""

from __future__ import annotations

import numpy as np

from ensemble.metrics import Metric

ROWS = 60
CLASSES = 4  # more than two: enough for neighbours
ROUNDING = 1e-9


def depends_on_order(metric: Metric, n_classes: int) -> bool:
    """Found by trying: the same made-up predictions scored with their classes in another order.
    False where the metric cannot score so many classes at all."""
    classes = min(n_classes, CLASSES)
    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % classes
    proba = rng.dirichlet(np.ones(classes), size=ROWS)
    # Not reversed: neighbours would stay neighbours.
    order = np.roll(np.arange(classes), 1)
    try:
        as_it_is = metric(labels, proba)
        otherwise = metric(np.argsort(order)[labels], proba[:, order])
    except ValueError:
        return False
    return not abs(as_it_is - otherwise) <= ROUNDING
