"""How much each weight owes to chance: the chosen method refitted on resampled rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ensemble.blend_value import Stability
from ensemble.bootstrap import UndefinedError, resample_counts
from ensemble.errors import BlendError
from ensemble.fitting import NO_FOLDS, Fitter
from ensemble.methods import METHODS

PERCENTILES = (5.0, 95.0)


def weight_stability(
    fitter: Fitter, method: str, *, refits: int, seed: int
) -> list[Stability | None]:
    """For each member of the library, its weight over bootstrap refits (Efron and Tibshirani 1993)
    of `method`, whole groups drawn together; over the fits without one fold where the method is
    slow to fit. None for a method whose weights learn nothing, or without refits."""
    nobody: list[Stability | None] = [None] * len(fitter.library.names)
    if METHODS[method].needs == "nothing" or not refits or len(fitter.library.names) == 1:
        return nobody
    if METHODS[method].learns_weights:
        weights = _bootstrap(fitter, method, refits, seed)
    else:
        outer = [frozenset({fold}) for fold in fitter.library.fold_names]
        weights = np.stack([fitter.fits(out).ways[method].combination.weights for out in outer])
    if np.all(weights == weights[0]):  # nothing that rows could move
        return nobody
    return [stability_of(column) for column in weights.T]


def stability_of(weights: np.ndarray | Sequence[float]) -> Stability:
    """Of one member's weights (refits,)."""
    values = np.asarray(weights, dtype=np.float64)
    low, high = np.percentile(values, PERCENTILES)
    return Stability(
        mean=float(values.mean()),
        low=float(low),
        high=float(high),
        used=float(np.mean(values > 0)),
        refits=len(values),
    )


def _bootstrap(fitter: Fitter, method: str, refits: int, seed: int) -> NDArray[np.float64]:
    library = fitter.library
    rows = fitter.fit_rows(NO_FOLDS)
    given = np.ones(library.n_rows) if library.row_weights is None else library.row_weights
    weights = np.empty((refits, rows.n_members))
    for refit, counts in enumerate(resample_counts(library.labels, library.groups, refits, seed)):
        fitter.say(f"stability of the weights: refit {refit + 1} of {refits}")
        drawn = counts * given
        resampled = rows.weighted(drawn if drawn.any() else given)  # all rows without weight
        try:
            weights[refit] = METHODS[method].fit(resampled).weights
        except BlendError as error:  # a scorer of scikit-learn may lack a class
            raise UndefinedError(
                rows.metric.name, "set refits to 0 for no stability of the weights"
            ) from error
    return weights
