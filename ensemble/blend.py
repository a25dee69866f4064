"""Fit a blend on out-of-fold predictions, and score it with numbers that can be believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ensemble.blend_value import (
    Blend,
    BlendMember,
    JudgedScore,
    MethodScore,
    NestedScores,
    Score,
    SingleScore,
    read_blend,
    write_blend,
)
from ensemble.bootstrap import percentile_interval, resampled_metric
from ensemble.errors import BlendError
from ensemble.methods import METHODS, Fits, MethodSettings, fit_methods, predict_many, rank
from ensemble.metrics import METRICS, Metric, get_metric
from ensemble.nested import Predict, nested_predictions
from ensemble.predictions import UNKNOWN_LABEL, Predictions

__all__ = [
    "Blend",
    "BlendMember",
    "BlendSettings",
    "JudgedScore",
    "MethodScore",
    "NestedScores",
    "Score",
    "SingleScore",
    "fit_blend",
    "read_blend",
    "write_blend",
]

Progress = Callable[[str], None]


@dataclass(frozen=True)
class BlendSettings:
    """How to blend. `methods`: which ways of weighing compete; where several are equally good the
    first is used. `bootstrap`: resamples for the intervals, 0 for none. `probe_fold`: the fold on
    which configurations were selected."""

    metric: str = "log_loss"
    methods: tuple[str, ...] = METHODS
    calibrate: bool = True
    greedy_steps: int = 25
    bootstrap: int = 2000
    confidence: float = 0.95
    seed: int = 0
    probe_fold: int = 0

    def __post_init__(self) -> None:
        if self.bootstrap < 0:
            raise ValueError(f"bootstrap: expected 0 resamples or more, got {self.bootstrap}")
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"confidence: expected between 0 and 1, got {self.confidence}")
        _ = self.fitting  # refuses unknown names

    @property
    def fitting(self) -> MethodSettings:
        return MethodSettings(
            get_metric(self.metric), self.methods, self.calibrate, self.greedy_steps
        )


def fit_blend(
    members: Mapping[str, Predictions],
    classes: tuple[str, ...],
    settings: BlendSettings,
    *,
    groups: Mapping[str, str | None] | np.ndarray | None = None,
    progress: Progress | None = None,
) -> Blend:
    """Fit temperatures and weights for `members` (by config_id), and judge them.

    Every member must predict the same labelled rows in the same at least two folds. `groups`: by
    id, or (N,) in the row order of the first member; rows of one group are resampled together.
    Raises BlendError where the members do not fit each other. The choice of the method is inside
    the loop of the headline score; the final choice is by the methods' own nested scores.
    """
    say = progress or (lambda text: None)
    reference, names, probs = _aligned(members, classes)
    labels, folds = reference.labels, reference.folds
    fitter = _Fitter(settings.fitting, folds, say)
    nested = nested_predictions(probs, labels, folds, fitter.fit_everything)
    say("fitting on all folds")
    final = fitter.fits(probs, labels, folds)
    methods = settings.methods
    in_sample = fitter.predict_methods(final)(probs)
    chosen = fitter.best_method(labels, nested[:, : len(methods)])
    say("bootstrapping the scores")
    metric = get_metric(settings.metric)
    judge = _Judge(metric, reference, settings, _group_rows(reference, groups))
    blend, single = nested[:, fitter.AUTO], nested[:, fitter.SINGLE]
    return Blend(
        metric=metric.name,
        method=methods[chosen],
        classes=tuple(classes),
        members=_members(names, probs, labels, final, final.weights[methods[chosen]], metric),
        nested=judge.nested_scores(blend, single, names[final.single]),
        methods=tuple(
            MethodScore(
                name=method,
                nested=metric(labels, nested[:, i]),
                nested_without_probe_fold=judge.value_without_probe_fold(nested[:, i]),
                in_sample=metric(labels, in_sample[:, i]),
                weights=dict(zip(names, final.weights[method].tolist(), strict=True)),
            )
            for i, method in enumerate(methods)
        ),
        metrics={"blend": _all_metrics(labels, blend), "best_single": _all_metrics(labels, single)},
        in_sample=metric(labels, in_sample[:, chosen]),
        n_rows=reference.n_rows,
        n_folds=len(np.unique(folds)),
        probe_fold=settings.probe_fold,
        confidence=settings.confidence,
        bootstrap=settings.bootstrap,
        certificate=final.gaps.get(methods[chosen]),
    )


class _Fitter:
    """Fits on whatever rows it is handed. The fits of a set of folds are remembered: predicting
    fold f with fold g left out asks for the same rows as predicting g with f left out."""

    AUTO, SINGLE = -2, -1  # where `fit_everything` puts them, behind the methods

    def __init__(self, settings: MethodSettings, all_folds: np.ndarray, say: Progress) -> None:
        self._settings = settings
        self._all_folds = frozenset(np.unique(all_folds).tolist())
        self._say = say
        self._known: dict[frozenset[int], Fits] = {}

    def fits(self, probs: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Fits:
        key = frozenset(np.unique(folds).tolist())
        if key not in self._known:
            self._known[key] = fit_methods(probs, labels, self._settings)
        return self._known[key]

    def predict_methods(self, fits: Fits) -> Predict:
        """(M, N, C) -> (N, methods, C)."""
        weights = [fits.weights[method] for method in self._settings.methods]
        return partial(predict_many, temperatures=fits.temperatures, weights=weights)

    def fit_methods(self, probs: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Predict:
        return self.predict_methods(self.fits(probs, labels, folds))

    def fit_everything(self, probs: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Predict:
        """Every method, the method chosen within these rows, and the best single member:
        (M, N, C) -> (N, methods + 2, C)."""
        held_out = sorted(self._all_folds - set(np.unique(folds).tolist()))
        self._say(f"nested score: fold {held_out[0]} of {len(self._all_folds)} held out")
        fits = self.fits(probs, labels, folds)
        method = self._settings.methods[self._choose(probs, labels, folds)]
        weights = [fits.weights[name] for name in self._settings.methods]
        weights += [fits.weights[method], fits.single_weights()]
        return partial(predict_many, temperatures=fits.temperatures, weights=weights)

    def best_method(self, labels: np.ndarray, predicted: np.ndarray) -> int:
        """The best of `predicted` (N, methods, C); the first where equal."""
        metric = self._settings.metric
        ranks = [rank(metric, labels, predicted[:, i]) for i in range(predicted.shape[1])]
        return min(range(len(ranks)), key=ranks.__getitem__)

    def _choose(self, probs: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> int:
        if len(self._settings.methods) == 1 or len(probs) == 1:
            return 0
        if len(np.unique(folds)) < 2:  # nothing left to hold out: choose in-sample
            return self.best_method(labels, self.fit_methods(probs, labels, folds)(probs))
        inner = nested_predictions(probs, labels, folds, self.fit_methods)
        return self.best_method(labels, inner)


class _Judge:
    """Scores nested predictions over all rows and over those outside the probe fold."""

    def __init__(
        self,
        metric: Metric,
        reference: Predictions,
        settings: BlendSettings,
        groups: NDArray[np.object_] | None,
    ) -> None:
        self._metric, self._settings, self._groups = metric, settings, groups
        self._labels = reference.labels
        self._all = np.ones(reference.n_rows, dtype=bool)
        self._outside = reference.folds != settings.probe_fold

    def value_without_probe_fold(self, proba: np.ndarray) -> float:
        return self._metric(self._labels[self._outside], proba[self._outside])

    def nested_scores(self, blend: np.ndarray, single: np.ndarray, config_id: str) -> NestedScores:
        everywhere = self._scores(blend, single, self._all)
        outside = self._scores(blend, single, self._outside)
        (a, b, difference), (a_out, b_out, difference_out) = everywhere, outside
        return NestedScores(
            blend=JudgedScore(a.value, a.low, a.high, a_out),
            best_single=SingleScore(b.value, b.low, b.high, b_out, config_id),
            difference=JudgedScore(
                difference.value, difference.low, difference.high, difference_out
            ),
        )

    def _scores(
        self, blend: np.ndarray, single: np.ndarray, rows: np.ndarray
    ) -> tuple[Score, Score, Score]:
        labels, pair = self._labels[rows], [blend[rows], single[rows]]
        values = [self._metric(labels, proba) for proba in pair]
        values.append(values[0] - values[1])
        if not self._settings.bootstrap:
            a, b, difference = (Score(value, None, None) for value in values)
            return a, b, difference
        drawn = resampled_metric(
            labels,
            pair,
            self._metric,
            resamples=self._settings.bootstrap,
            seed=self._settings.seed,
            groups=None if self._groups is None else self._groups[rows],
        )
        a, b, difference = (
            self._score(value, each)
            for value, each in zip(values, [*drawn, drawn[0] - drawn[1]], strict=True)
        )
        return a, b, difference

    def _score(self, value: float, drawn: np.ndarray) -> Score:
        interval = percentile_interval(drawn, self._settings.confidence)
        return Score(value, interval.low, interval.high)


def _aligned(
    members: Mapping[str, Predictions], classes: tuple[str, ...]
) -> tuple[Predictions, list[str], NDArray[np.float32]]:
    """The first member's rows, the names in order, and probabilities (M, N, C) in that order of
    rows. Names are sorted, so that the result does not depend on the order of the mapping."""
    if not members:
        raise BlendError("expected at least one member to blend, got none")
    first_name, reference = next(iter(members.items()))
    if reference.n_classes != len(classes):
        raise BlendError(
            f"configuration {first_name}: expected {len(classes)} classes, "
            f"got {reference.n_classes}"
        )
    unknown = np.flatnonzero(reference.labels == UNKNOWN_LABEL)
    if len(unknown):
        raise BlendError(
            f"configuration {first_name}: expected a label in every row, got {len(unknown)} "
            f"without (first id {reference.ids[unknown[0]]!r}); a blend is fitted on known labels"
        )
    if len(np.unique(reference.folds)) < 2:
        raise BlendError(
            f"configuration {first_name}: expected rows of at least two folds, "
            f"got {np.unique(reference.folds).tolist()}: a nested score holds one out"
        )
    names = sorted(members)
    probs = np.empty((len(names), *reference.proba.shape), dtype=np.float32)
    for i, name in enumerate(names):
        probs[i] = _matching(name, members[name], first_name, reference).proba
    return reference, names, probs


def _matching(
    name: str, member: Predictions, first_name: str, reference: Predictions
) -> Predictions:
    if member.n_classes != reference.n_classes:
        raise BlendError(
            f"configuration {name}: expected {reference.n_classes} classes as in {first_name}, "
            f"got {member.n_classes}"
        )
    try:
        aligned = member.aligned_to(reference.ids)
    except BlendError as error:
        raise BlendError(f"configuration {name} beside {first_name}: {error}") from error
    for word, mine, theirs in (
        ("label", aligned.labels, reference.labels),
        ("fold", aligned.folds, reference.folds),
    ):
        wrong = np.flatnonzero(mine != theirs)
        if len(wrong):
            row = wrong[0]
            raise BlendError(
                f"configuration {name}, id {reference.ids[row]!r}: expected {word} {theirs[row]} "
                f"as in {first_name}, got {mine[row]} ({len(wrong)} rows differ)"
            )
    return aligned


def _group_rows(
    reference: Predictions, groups: Mapping[str, str | None] | np.ndarray | None
) -> NDArray[np.object_] | None:
    if groups is None:
        return None
    if isinstance(groups, Mapping):
        missing = [name for name in reference.ids if name not in groups]
        if missing:
            raise BlendError(
                f"expected a group (or None) for every id, got none for {len(missing)} "
                f"(first {missing[0]!r})"
            )
        return np.array([groups[name] for name in reference.ids], dtype=object)
    rows = np.asarray(groups, dtype=object)
    if rows.shape != (reference.n_rows,):
        raise BlendError(f"expected {reference.n_rows} groups, got {rows.shape}")
    return rows


def _members(
    names: list[str],
    probs: np.ndarray,
    labels: np.ndarray,
    fits: Fits,
    weights: np.ndarray,
    metric: Metric,
) -> tuple[BlendMember, ...]:
    members = [
        BlendMember(
            config_id=name,
            weight=float(weight),
            temperature=float(temperature),
            score=metric(labels, proba),
            **_all_metrics(labels, proba),
        )
        for name, weight, temperature, proba in zip(
            names, weights, fits.temperatures, probs, strict=True
        )
    ]
    return tuple(sorted(members, key=lambda member: (-member.weight, member.config_id)))


def _all_metrics(labels: np.ndarray, proba: np.ndarray) -> dict[str, float]:
    return {name: metric(labels, proba) for name, metric in METRICS.items()}
