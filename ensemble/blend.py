"""Fit a blend on out-of-fold predictions, and score it with numbers that can be believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ensemble.blend_value import (
    BEFORE_RULES,
    Blend,
    BlendMember,
    JudgedScore,
    MethodScore,
    NestedScores,
    Score,
    SecondBlend,
    SingleScore,
    Stage,
    read_blend,
    write_blend,
)
from ensemble.calibration import CalibrationKind
from ensemble.errors import BlendError
from ensemble.explain import contributions
from ensemble.final import Final, fit_final
from ensemble.fitting import SINGLE, UNDECIDED, FitSettings, Fitter, outcome_of
from ensemble.hierarchy import named_groups
from ensemble.judge import Judge
from ensemble.library import Library, read_library
from ensemble.methods import by_simplicity
from ensemble.metrics import METRICS, get_metric
from ensemble.nested import Nested, held_out_sets, nested
from ensemble.outcome import Outcome
from ensemble.predictions import Predictions
from ensemble.rules import Rules
from ensemble.scratch import MEMORY_BYTES
from ensemble.stability import weight_stability

__all__ = [
    "Blend",
    "BlendMember",
    "BlendSettings",
    "Fitted",
    "JudgedScore",
    "MethodScore",
    "NestedScores",
    "Score",
    "SingleScore",
    "fit_blend",
    "fit_library",
    "read_blend",
    "write_blend",
]

Progress = Callable[[str], None]


@dataclass(frozen=True)
class BlendSettings:
    """How to blend.

    metric           that methods are compared by, and that greedy selection follows
    methods          which compete; "auto" for the usual ones. Of those that the data cannot tell
                     apart (one standard error) the simplest is taken
    calibrate        a temperature for every member before blending
    calibrate_blend  "none", "temperature" or "vector" for the blend after
    groups           second blends within groups of class names; "auto" finds confused classes
    bootstrap        resamples for the intervals, 0 for none
    probe_fold       the fold on which configurations were selected
    refits           of the chosen method on resampled rows, to show how stable weights are
    explain          score the blend again without each member
    l2               pull of convex weights to equal ones, in nats
    memory_bytes     of one array, before a file takes its place
    """

    metric: str = "log_loss"
    methods: tuple[str, ...] = ("auto",)
    calibrate: bool = True
    calibrate_blend: CalibrationKind = "temperature"
    groups: tuple[tuple[str, ...], ...] | str = ()
    greedy_steps: int = 25
    l2: float = 0.0
    bootstrap: int = 2000
    confidence: float = 0.95
    seed: int = 0
    probe_fold: int = 0
    refits: int = 20
    explain: bool = True
    memory_bytes: int = MEMORY_BYTES

    def __post_init__(self) -> None:
        for name, least in (("bootstrap", 0), ("refits", 0), ("greedy_steps", 1), ("l2", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"confidence: expected between 0 and 1, got {self.confidence}")
        if self.calibrate_blend not in ("none", "temperature", "vector"):
            raise ValueError(
                "calibrate_blend: expected none, temperature or vector, "
                f"got {self.calibrate_blend!r}"
            )
        _ = by_simplicity(self.methods), get_metric(self.metric)  # refuse unknown names

    def fitting(self, classes: Sequence[str]) -> FitSettings:
        groups: tuple[tuple[int, ...], ...] | str = "auto"
        if not isinstance(self.groups, str):
            groups = named_groups(self.groups, classes)
        elif self.groups != groups:
            raise ValueError(f"groups: expected class names or auto, got {self.groups!r}")
        return FitSettings(
            metric=get_metric(self.metric),
            methods=by_simplicity(self.methods),
            calibrate=self.calibrate,
            calibrate_blend=self.calibrate_blend,
            greedy_steps=self.greedy_steps,
            l2=self.l2,
            groups=groups,
            memory_bytes=self.memory_bytes,
        )


@dataclass(frozen=True, eq=False)
class Fitted:
    """A blend and the nested predictions behind its headline, in the row order of `library`.
    `before_calibration` and `nested` hold whole probabilities where the library does."""

    blend: Blend
    library: Library
    nested: Outcome
    before_calibration: Outcome

    def nested_predictions(self) -> Predictions | None:
        """Each row by a blend that was not fitted on its fold. None where only the true class's
        probabilities are known."""
        if self.nested.proba is None:
            return None
        proba = self.nested.proba.astype(np.float32)
        return Predictions(self.library.ids, self.library.labels, self.library.folds, proba)


def fit_blend(
    members: Mapping[str, Predictions],
    classes: tuple[str, ...],
    settings: BlendSettings,
    *,
    groups: Mapping[str, str | None] | NDArray[np.object_] | None = None,
    row_weights: NDArray[np.float64] | None = None,
    rules: Rules | None = None,
    progress: Progress | None = None,
) -> Blend:
    """Fit a blend of `members` (by config_id), and judge it.

    Every member must predict the same labelled rows in the same at least two folds. `groups`: by
    id, or (N,) in the row order of the first member; rows of one group are resampled together.
    `row_weights`: (N,) in the row order of the first member. Raises BlendError where the members
    do not fit each other. The choice of the method is inside the loop of the headline score; the
    final choice is by the methods' own nested scores.
    """
    library = read_library(
        list(members),
        members.__getitem__,
        classes,
        groups=groups,
        row_weights=row_weights,
        memory_bytes=settings.memory_bytes,
    )
    return fit_library(library, settings, rules=rules, progress=progress).blend


def fit_library(
    library: Library,
    settings: BlendSettings,
    *,
    rules: Rules | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """`fit_blend` of what was read already, with the nested predictions. A library without whole
    probabilities can be blended for log loss, by methods that need no more."""
    if rules is not None and library.probs is None:
        raise BlendError(
            f"rules of {rules.source} need the probabilities of all classes, and only the true "
            "class's were read: read whole probabilities, or leave the rules out"
        )
    # BLAS threads beside compiled loops wait for each other: ten times slower on a busy machine.
    with threadpool_limits(1, user_api="blas"):
        return _fitted(library, settings, rules, progress or (lambda text: None))


def _fitted(
    library: Library, settings: BlendSettings, rules: Rules | None, say: Progress
) -> Fitted:
    fitting = settings.fitting(library.classes)
    choosing = len(fitting.methods) > 1 or rules is not None
    sets = held_out_sets(library.fold_names, choosing=choosing, weighted=library.weighted_folds)
    fitter = Fitter(library, fitting, sets, say=say)
    honest = nested(fitter, rules, seed=settings.seed)
    say("fitting on all folds")
    final = fit_final(fitter, honest, rules, seed=settings.seed)
    say("bootstrapping the scores")
    judge = Judge(
        library,
        fitting.metric,
        settings.probe_fold,
        settings.bootstrap,
        settings.confidence,
        settings.seed,
    )
    order = _order(library.names, final.weights)
    method = final.choice.method
    way = final.fits.ways[method]
    best_single = _best_single(library, final)
    blend = Blend(
        metric=fitting.metric.name,
        method=method,
        classes=library.classes,
        members=_members(fitter, final, judge, settings, order),
        nested=judge.nested_scores(honest.blend, honest.single, best_single),
        methods=_method_scores(library, judge, honest, final),
        metrics=_metrics(judge, honest, rules),
        in_sample=judge.value(final.blend_in_sample),
        n_rows=library.n_rows,
        n_folds=len(library.fold_names),
        probe_fold=settings.probe_fold,
        confidence=settings.confidence,
        bootstrap=settings.bootstrap,
        combination=way.combination.take(order),
        calibration=way.calibration,
        groups=tuple(
            SecondBlend(classes, tuple(weights[order].tolist()))
            for classes, weights in final.fits.groups_of(method)
        ),
        rules=final.rules,
        before_rules=None
        if rules is None
        else judge.nested_scores(honest.before_rules, honest.single, best_single),
        stages=tuple(Stage(name, judge.value(each)) for name, each in honest.stages.items()),
        choice=final.choice.reason(fitting.metric),
        certificate=final.certificate,
    )
    return Fitted(blend, library, honest.blend, honest.stages["weights"])


def _order(names: Sequence[str], weights: np.ndarray) -> NDArray[np.intp]:
    """By falling weight, then name."""
    return np.array(sorted(range(len(names)), key=lambda i: (-weights[i], names[i])), dtype=np.intp)


def _best_single(library: Library, final: Final) -> str:
    return library.names[int(final.fits.ways[SINGLE].combination.weights.argmax())]


def _members(
    fitter: Fitter, final: Final, judge: Judge, settings: BlendSettings, order: NDArray[np.intp]
) -> tuple[BlendMember, ...]:
    library, method = fitter.library, final.choice.method
    stability = weight_stability(fitter, method, refits=settings.refits, seed=settings.seed)
    added = contributions(fitter, method, final.weights) if settings.explain else None
    return tuple(
        BlendMember(
            config_id=library.names[index],
            weight=float(final.weights[index]),
            temperature=float(final.fits.temperatures[index]),
            **_own_scores(library, judge, index),
            stability=stability[index],
            without=added[index].without if added else None,
            only_right=added[index].only_right if added else None,
        )
        for index in order.tolist()
    )


def _own_scores(library: Library, judge: Judge, index: int) -> dict[str, Any]:
    """Of the member's probabilities as they are stored."""
    if library.probs is None:
        undecided = np.full(library.n_rows, UNDECIDED)
        outcome = Outcome(library.p_true[index], undecided, library.n_classes)
    else:
        outcome = outcome_of(library.labels, library.probs[index], keep=True)
    found = _all_metrics(judge, outcome)
    return {"score": found[judge.metric.name]} | {name: found.get(name) for name in METRICS}


def _method_scores(
    library: Library, judge: Judge, honest: Nested, final: Final
) -> tuple[MethodScore, ...]:
    several = len(honest.methods) > 1
    return tuple(
        MethodScore(
            name=name,
            nested=judge.value(outcome),
            nested_without_probe_fold=judge.value_without_probe_fold(outcome),
            in_sample=judge.value(final.in_sample[name]),
            weights=dict(
                zip(library.names, final.fits.ways[name].combination.weights.tolist(), strict=True)
            ),
            behind=final.choice.behind[name] if several else None,
            standard_error=final.choice.standard_error[name] if several else None,
        )
        for name, outcome in honest.methods.items()
    )


def _metrics(judge: Judge, honest: Nested, rules: Rules | None) -> dict[str, dict[str, float]]:
    outcomes = {"blend": honest.blend, "best_single": honest.single}
    if rules is not None:
        outcomes[BEFORE_RULES] = honest.before_rules
    return {name: _all_metrics(judge, outcome) for name, outcome in outcomes.items()}


def _all_metrics(judge: Judge, outcome: Outcome) -> dict[str, float]:
    """Log loss, accuracy, macro-F1 and the blend's metric, as far as they are known."""
    wanted = dict(METRICS) | {judge.metric.name: judge.metric}
    known = outcome.decided.min() != UNDECIDED
    return {
        name: judge.value(outcome, metric)
        for name, metric in wanted.items()
        if known or metric.from_true_class
    }
