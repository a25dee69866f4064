"""The honest score's predictions: every row by a blend that was fitted on the other folds, with
temperatures, weights, calibration, second blends, trust in rules and choice of method all inside.

For the choice, each other fold is in turn predicted by what was fitted without both: the fits of
two held-out folds serve both of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ensemble.choice import Choice, choose
from ensemble.fitting import NO_FOLDS, SINGLE, Fitter, joined, outcome_of
from ensemble.library import Library
from ensemble.outcome import Outcome
from ensemble.rules import Rules, fit_trust

RULES = "rules"


@dataclass(frozen=True, eq=False)
class Nested:
    """Predictions of all N rows, each from a fit that never saw its fold.

    methods   by method, as if it had been the only one
    stages    of the method chosen without the fold: after "weights", "calibration", "groups",
              "rules", as far as each is used; the last one is the blend
    single    the best single member, chosen without the fold
    chosen    by fold, the method that was chosen without it
    """

    methods: Mapping[str, Outcome]
    stages: Mapping[str, Outcome]
    single: Outcome
    chosen: Mapping[int, str]

    @property
    def blend(self) -> Outcome:
        return last(self.stages)

    @property
    def before_rules(self) -> Outcome:
        return last({name: each for name, each in self.stages.items() if name != RULES})


def held_out_sets(folds: Sequence[int], *, choosing: bool) -> list[frozenset[int]]:
    """Every set of folds that a nested score holds out: none, each, and each two where there is
    something to choose and a third fold to learn from."""
    sets = [NO_FOLDS, *(frozenset({fold}) for fold in folds)]
    if choosing and len(folds) > 2:
        sets += [frozenset(pair) for pair in combinations(folds, 2)]
    return sets


def nested(fitter: Fitter, rules: Rules | None = None, *, seed: int = 0) -> Nested:
    """Predict every fold by what was fitted on all others.

    The fitter must know `held_out_sets` of the library's folds. Whole probabilities (float32) are
    kept of the blend's stages and of the best single member; of the methods only where the metric
    needs them.
    """
    run = _Run(fitter, rules, seed)
    parts = [run.part(number, fold) for number, fold in enumerate(run.folds, start=1)]
    order = np.argsort(np.concatenate([part.rows for part in parts]), kind="stable")

    def whole(outcomes: Sequence[Outcome]) -> Outcome:
        return joined(outcomes).take(order)

    methods = fitter.settings.methods
    stages = tuple(parts[0].stages)
    return Nested(
        methods={name: whole([part.methods[name] for part in parts]) for name in methods},
        stages={stage: whole([part.stages[stage] for part in parts]) for stage in stages},
        single=whole([part.methods[SINGLE] for part in parts]),
        chosen={part.fold: part.method for part in parts},
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """One held-out fold: its rows, the method chosen without it, and what was predicted."""

    fold: int
    rows: NDArray[np.intp]
    method: str
    methods: Mapping[str, Outcome]
    stages: Mapping[str, Outcome]


class _Run:
    def __init__(self, fitter: Fitter, rules: Rules | None, seed: int) -> None:
        self.folds = fitter.library.fold_names
        self._fitter, self._rules, self._seed = fitter, rules, seed
        self._library: Library = fitter.library
        self._methods = fitter.settings.methods
        self._metric = fitter.settings.metric
        self._of_pair: dict[frozenset[int], _Inner] = {}

    def part(self, number: int, fold: int) -> _Part:
        self._fitter.say(f"nested score: fold {number} of {len(self.folds)} held out")
        inner = self._inner(fold) if len(self._methods) > 1 or self._rules else None
        method = self._choice(inner).method if inner else self._methods[0]
        out = frozenset({fold})
        rows = self._fitter.rows_in(out)
        found = self._fitter.predict(out, rows, self._fitter.ways, self._kept | {method, SINGLE})
        stages = dict(found[method])
        if self._rules is not None and inner is not None:
            stages[RULES] = self._ruled(rows, last(stages), self._trust(inner, method))
        methods = {way: last(each) for way, each in found.items()}
        return _Part(fold, rows, method, methods, stages)

    @property
    def _kept(self) -> frozenset[str]:
        """The ways of which whole probabilities are needed to score them."""
        metric = self._metric
        enough = metric.from_true_class or metric.from_decisions
        return frozenset() if enough else frozenset(self._fitter.ways)

    def _inner(self, fold: int) -> _Inner:
        """All rows outside `fold`, each predicted by a fit that saw neither its fold nor `fold`;
        with two folds nothing is left to learn from, and the fit's own rows have to do."""
        others = [other for other in self.folds if other != fold]
        if len(others) == 1:
            out = frozenset({fold})
            return self._predicted(out, self._fitter.rows_outside(out))
        pairs = [(other, self._pair(frozenset({fold, other}))) for other in others]
        folds = self._library.folds
        return _Inner.of([pair.take(folds[pair.rows] == other) for other, pair in pairs])

    def _pair(self, out: frozenset[int]) -> _Inner:
        if out not in self._of_pair:
            self._of_pair[out] = self._predicted(out, self._fitter.rows_in(out))
        return self._of_pair[out]

    def _predicted(self, out: frozenset[int], rows: NDArray[np.intp]) -> _Inner:
        rules = self._rules
        touched = rows[:0] if rules is None else rows[rules.touched(self._library.ids[rows])]
        found = self._fitter.predict(out, rows, self._fitter.ways, self._kept)
        ruled = (
            self._fitter.predict(out, touched, self._methods, frozenset(self._methods))
            if len(touched)
            else {}
        )
        return _Inner(
            rows,
            {way: last(stages) for way, stages in found.items()},
            touched,
            {way: _proba(last(stages)) for way, stages in ruled.items()},
        )

    def _choice(self, inner: _Inner) -> Choice:
        return choose(
            self._library.labels[inner.rows],
            {name: inner.outcomes[name] for name in self._methods},
            self._metric,
            single=inner.outcomes[SINGLE],
            groups=self._library.groups_of(inner.rows),
            row_weights=self._library.weights_of(inner.rows),
            seed=self._seed,
        )

    def _trust(self, inner: _Inner, method: str) -> float:
        assert self._rules is not None
        rows = inner.touched
        if not len(rows):
            return 1.0 if self._rules.fixed else 0.0
        return fit_trust(
            self._rules,
            self._library.ids[rows],
            self._library.labels[rows],
            inner.ruled[method],
            self._metric,
            self._library.weights_of(rows),
        )

    def _ruled(self, rows: NDArray[np.intp], before: Outcome, trust: float) -> Outcome:
        assert self._rules is not None
        proba = self._rules.apply(self._library.ids[rows], _proba(before), trust)
        return outcome_of(self._library.labels[rows], proba, keep=True)


@dataclass(frozen=True, eq=False)
class _Inner:
    """Rows outside a fold with each method's outcome; of those with a rule, the probabilities."""

    rows: NDArray[np.intp]
    outcomes: Mapping[str, Outcome]
    touched: NDArray[np.intp]
    ruled: Mapping[str, NDArray[np.float32]]

    def take(self, kept: NDArray[np.bool_]) -> _Inner:
        rows = self.rows[kept]
        with_rule = np.isin(self.touched, rows)
        return _Inner(
            rows,
            {way: outcome.take(kept) for way, outcome in self.outcomes.items()},
            self.touched[with_rule],
            {way: proba[with_rule] for way, proba in self.ruled.items()},
        )

    @classmethod
    def of(cls, parts: Sequence[_Inner]) -> _Inner:
        with_rule = [part for part in parts if len(part.touched)]
        return cls(
            np.concatenate([part.rows for part in parts]),
            {way: joined([part.outcomes[way] for part in parts]) for way in parts[0].outcomes},
            np.concatenate([part.touched for part in parts]),
            {
                way: np.concatenate([part.ruled[way] for part in with_rule])
                for way in (with_rule[0].ruled if with_rule else ())
            },
        )


def last(stages: Mapping[str, Outcome]) -> Outcome:
    """What the last stage in use predicts."""
    return list(stages.values())[-1]


def _proba(outcome: Outcome) -> NDArray[np.float32]:
    assert outcome.proba is not None
    return outcome.proba.astype(np.float32, copy=False)
