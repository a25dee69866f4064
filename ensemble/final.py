"""The blend that is kept: fitted on every fold, its method chosen by the nested scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.blend_value import AppliedRules
from ensemble.choice import Choice, choose
from ensemble.convex import convex_certificate
from ensemble.fitting import NO_FOLDS, Fits, Fitter
from ensemble.nested import Nested, last
from ensemble.outcome import Outcome
from ensemble.rules import Rules, fit_trust

CONVEX = "convex"


@dataclass(frozen=True, eq=False)
class Final:
    """Fitted on all rows: scores of `in_sample` (by method) are flattered, the nested ones are
    the judge. `certificate`: of the chosen method where that is convex."""

    fits: Fits
    choice: Choice
    in_sample: Mapping[str, Outcome]
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
    return Final(
        fits=fits,
        choice=choice,
        in_sample={way: last(stages) for way, stages in in_sample.items()},
        rules=None if rules is None else _applied(fitter, honest, rules),
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
