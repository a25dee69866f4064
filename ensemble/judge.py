"""Nested predictions scored with intervals, over all rows and over those outside the probe fold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.blend_value import JudgedScore, NestedScores, Score, SingleScore
from ensemble.bootstrap import UndefinedError, percentile_interval, resampled_metric
from ensemble.library import Library
from ensemble.metrics import Metric
from ensemble.outcome import Outcome

WITHOUT_INTERVALS = "set bootstrap to 0 for no intervals"
SLOW_RESAMPLES = 200  # enough for an interval; AUC takes 70 ms a resample at 15,000 x 100


@dataclass(frozen=True, eq=False)
class Judge:
    """`resamples` of the bootstrap (0: no intervals), whole groups drawn together."""

    library: Library
    metric: Metric
    probe_fold: int
    resamples: int
    confidence: float
    seed: int

    def value(self, outcome: Outcome, metric: Metric | None = None) -> float:
        """The metric (another one where given) over all rows."""
        library = self.library
        return outcome.score(metric or self.metric, library.labels, library.row_weights)

    def value_without_probe_fold(self, outcome: Outcome) -> float:
        rows = self._outside
        return outcome.take(rows).score(
            self.metric, self.library.labels[rows], self.library.weights_of(rows)
        )

    def nested_scores(self, blend: Outcome, single: Outcome, config_id: str) -> NestedScores:
        """Of the blend, of the best single member, and of their difference on equal resamples."""
        everywhere = self._scores(blend, single, np.ones(self.library.n_rows, dtype=bool))
        (a, b, difference), outside = everywhere, self._scores(blend, single, self._outside)
        return NestedScores(
            blend=JudgedScore(a.value, a.low, a.high, outside[0]),
            best_single=SingleScore(b.value, b.low, b.high, outside[1], config_id),
            difference=JudgedScore(difference.value, difference.low, difference.high, outside[2]),
        )

    @property
    def _resamples(self) -> int:
        """Fewer where a resample means sorting or binning all probabilities again."""
        return self.resamples if self.metric.is_quick else min(self.resamples, SLOW_RESAMPLES)

    @property
    def _outside(self) -> NDArray[np.bool_]:
        return np.asarray(self.library.folds != self.probe_fold)

    def _scores(
        self, blend: Outcome, single: Outcome, rows: NDArray[np.bool_]
    ) -> tuple[Score, Score, Score]:
        library = self.library
        labels, row_weights = library.labels[rows], library.weights_of(rows)
        pair = [blend.take(rows), single.take(rows)]
        values = [one.score(self.metric, labels, row_weights) for one in pair]
        values.append(values[0] - values[1])
        if not self.resamples:
            a, b, difference = (Score(value, None, None) for value in values)
            return a, b, difference
        try:
            drawn = resampled_metric(
                labels,
                pair,
                self.metric,
                resamples=self._resamples,
                seed=self.seed,
                groups=library.groups_of(rows),
                row_weights=row_weights,
            )
        except UndefinedError as error:
            raise UndefinedError(error.metric, WITHOUT_INTERVALS) from error
        resampled = [*drawn, drawn[0] - drawn[1]]
        a, b, difference = map(self._score, values, resampled)
        return a, b, difference

    def _score(self, value: float, drawn: np.ndarray) -> Score:
        if not np.all(np.isfinite(drawn)):
            raise UndefinedError(self.metric.name, WITHOUT_INTERVALS)
        interval = percentile_interval(drawn, self.confidence)
        return Score(value, interval.low, interval.high)
