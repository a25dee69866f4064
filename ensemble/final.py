"""The blend that is kept: fitted on every fold, its method chosen by the nested scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.blend_value import AppliedRules
from ensemble.choice import Choice, choose
from ensemble.convex import convex_certificate
from ensemble.fitting import NO_FOLDS, Fits, Fitter, outcome_of
from ensemble.nested import Nested, last
from ensemble.outcome import Outcome
from ensemble.rules import Rules, fit_trust

CONVEX = "convex"


@dataclass(frozen=True, eq=False)
class Final:
    """Fitted on all rows: scores of `in_sample` (by method, before rules) and of `blend_in_sample`
    (of the chosen one, after rules) are flattered, the nested ones are the judge. `certificate`: of
    the chosen method where that is convex."""

    fits: Fits
    choice: Choice
    in_sample: Mapping[str, Outcome]
    blend_in_sample: Outcome
    rules: AppliedRules | None
    certificate: float | None

    @property
    def weights(self) -> NDArray[np.float64]:
        """(M,) of the chosen method."""
        return self.fits.ways[self.choice.method].combination.weights


def fit_final(fitter: Fitter, honest: Nested, rules: Rules | None, *, seed: int) -> Final:
    """Fit on all folds what `honest` was the rehearsal of."""
    library, metric = fitter.library, fitter.settings.metric
    choice = choose(
        library.labels,
        honest.methods,
        metric,
        single=honest.single,
        groups=library.groups,
        row_weights=library.row_weights,
        seed=seed,
    )
    ways = fitter.settings.methods
    keep = () if metric.from_true_class or metric.from_decisions else ways
    everything = np.arange(library.n_rows)
    in_sample = fitter.predict(NO_FOLDS, everything, ways, keep)
    fits = fitter.fits(NO_FOLDS)
    before = last(in_sample[choice.method])
    applied = None if rules is None else _applied(fitter, honest, rules)
    return Final(
        fits=fits,
        choice=choice,
        in_sample={way: last(stages) for way, stages in in_sample.items()},
        blend_in_sample=before
        if rules is None or applied is None
        else _ruled(fitter, choice.method, rules, applied.trust, before),
        rules=applied,
        certificate=_certificate(fitter, fits) if choice.method == CONVEX else None,
    )


def _certificate(fitter: Fitter, fits: Fits) -> float:
    rows, one = fitter.fit_rows(NO_FOLDS), fitter.settings
    weights = fits.ways[CONVEX].combination.weights
    return convex_certificate(rows.p_true, weights, l2=one.l2, row_weights=rows.row_weights)


def _applied(fitter: Fitter, honest: Nested, rules: Rules) -> AppliedRules:
    """The trust that is kept, fitted on the nested predictions of all rows with a rule: they are
    what a blend says of rows that it was not fitted on."""
    library = fitter.library
    touched = np.flatnonzero(rules.touched(library.ids))
    before = honest.before_rules.take(touched)
    assert before.proba is not None
    trust = fit_trust(
        rules,
        library.ids[touched],
        library.labels[touched],
        before.proba,
        fitter.settings.metric,
        library.weights_of(touched),
    )
    return AppliedRules(rules.source, len(touched), trust)


def _ruled(fitter: Fitter, method: str, rules: Rules, trust: float, before: Outcome) -> Outcome:
    """`before`, of all rows, after the rules: whole probabilities only of those with one."""
    library = fitter.library
    rows = np.flatnonzero(rules.touched(library.ids))
    if not len(rows):
        return before
    found = last(fitter.predict(NO_FOLDS, rows, (method,), (method,))[method])
    assert found.proba is not None
    after = outcome_of(
        library.labels[rows], rules.apply(library.ids[rows], found.proba, trust), keep=True
    )
    p_true, decided = before.p_true.copy(), before.decided.copy()
    p_true[rows], decided[rows] = after.p_true, after.decided
    proba = before.proba
    if proba is not None:
        proba = proba.copy()
        proba[rows] = after.proba
    return Outcome(p_true, decided, before.n_classes, proba)
