"""Which method: the simplest one that the data cannot tell from the best.

Breiman, Friedman, Olshen and Stone, "Classification and regression trees", 1984, section 3.4.3:
the one-standard-error rule. Here the error is that of the paired difference from the best, on the
same rows: the scores themselves vary far more from row to row than the methods differ. A method
that loses to the best single member is no candidate, however simple.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.bootstrap import UndefinedError, standard_error_of_difference
from ensemble.metrics import LOG_LOSS, Metric
from ensemble.outcome import Outcome

RESAMPLES = 200  # for metrics whose standard error has no formula


@dataclass(frozen=True)
class Choice:
    """`method` of those that competed, the simplest first; by method how much worse its score is
    than the best one's (0 or more) and the standard error of that difference; `no_gain`: methods
    that were left out because the best single member is better."""

    method: str
    best: str
    behind: Mapping[str, float]
    standard_error: Mapping[str, float]
    no_gain: tuple[str, ...] = ()

    def reason(self, metric: Metric) -> str:
        """One line for people."""
        others = ", ".join(name for name in self.behind if name != self.method)
        if not others:
            return f"{self.method}: the only method asked for"
        left_out = (
            f"; {', '.join(self.no_gain)} left out: no better than the best single member"
            if self.no_gain
            else ""
        )
        if self.method == self.best:
            why = f"the best nested {metric.name}, chosen among it and {others}"
        else:
            why = (
                f"{self.behind[self.method]:.4f} behind {self.best}, within one standard error of "
                f"{self.standard_error[self.method]:.4f}, and simpler; chosen among it and {others}"
            )
        return f"{self.method}: {why}{left_out}"


def choose(
    labels: np.ndarray,
    outcomes: Mapping[str, Outcome],
    metric: Metric,
    *,
    single: Outcome | None = None,
    groups: np.ndarray | None = None,
    row_weights: np.ndarray | None = None,
    seed: int = 0,
) -> Choice:
    """The first of `outcomes` (simplest first, by method, all of the rows `labels` (N,)) that is
    at most one standard error worse than the best, and not worse than `single`, the best single
    member (unless all are). Rows of a group count as one observation."""

    def loss(outcome: Outcome) -> float:
        return metric.loss(outcome.score(metric, labels, row_weights))

    losses = {name: loss(outcome) for name, outcome in outcomes.items()}
    best = min(
        outcomes,
        key=lambda name: (losses[name], outcomes[name].score(LOG_LOSS, labels, row_weights)),
    )
    behind = {name: losses[name] - losses[best] for name in outcomes}
    errors = {
        name: 0.0
        if name == best
        else _standard_error(
            labels,
            outcomes[name],
            outcomes[best],
            metric,
            resamples=RESAMPLES,
            seed=seed,
            groups=groups,
            row_weights=row_weights,
        )
        for name in outcomes
    }
    bar = np.inf if single is None else max(loss(single), losses[best])
    no_gain = tuple(name for name in outcomes if losses[name] > bar)
    method = next(
        name
        for name in outcomes
        if name == best or (name not in no_gain and behind[name] <= errors[name])
    )
    return Choice(method, best, behind, errors, no_gain)


def _standard_error(
    labels: np.ndarray, a: Outcome, b: Outcome, metric: Metric, **options: Any
) -> float:
    try:
        return standard_error_of_difference(labels, a, b, metric, **options)
    except UndefinedError as error:
        raise UndefinedError(
            metric.name, "name one method, so that none is chosen by resampling, or another metric"
        ) from error
