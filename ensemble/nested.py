"""The honest score's predictions: every row by a blend that was fitted on the other folds, with
temperatures, weights, calibration, second blends, trust in rules and choice of method all inside.

For the choice, each other fold is in turn predicted by what was fitted without both: the fits of
two held-out folds serve both of them. More than ten folds are merged into ten parts for that, so
that the fits grow with the folds and not with their square; the fold itself stays outside of all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ensemble.blend_value import RULES
from ensemble.choice import Choice, choose
from ensemble.fitting import NO_FOLDS, SINGLE, Fitter, joined, outcome_of
from ensemble.library import Library
from ensemble.outcome import Outcome
from ensemble.rules import Rules, fit_trust

MAX_PARTS = 10


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


def held_out_sets(
    folds: Sequence[int], *, choosing: bool, weighted: Collection[int] | None = None
) -> list[frozenset[int]]:
    """Every set of folds that a nested score holds out: none, each, and where there is something
    to choose each two (of at most ten parts of the folds, and each part) that leave one to learn
    from. `weighted`: the folds with any row weight, None for all."""
    sets = [NO_FOLDS, *(frozenset({fold}) for fold in folds)]
    if choosing:
        parts = parts_of(folds)
        unions = [*parts, *(a | b for a, b in combinations(parts, 2))]
        teaching = frozenset(folds if weighted is None else weighted)
        sets += [out for out in unions if teaching - out]
    return list(dict.fromkeys(sets))


def parts_of(folds: Sequence[int]) -> list[frozenset[int]]:
    """Each fold, or at most ten runs of them, as even as they can be."""
    runs = np.array_split(np.array(folds), min(len(folds), MAX_PARTS))
    return [frozenset(run.tolist()) for run in runs]


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
        self._parts = parts_of(self.folds)
        # By two parts: the rows of the first, predicted without either, until its turn comes.
        self._waiting: dict[tuple[frozenset[int], frozenset[int]], _Inner] = {}
        self._outside: tuple[frozenset[int], _Inner] | None = None

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
        """The rows outside `fold`, each predicted by a fit that saw neither its fold nor `fold`;
        with two folds nothing is left to learn from, and the fit's own rows have to do. Folds
        without row weight are left out: they count for nothing."""
        own = next(part for part in self._parts if fold in part)
        others = [p for p in self._parts if p != own and p & self._library.weighted_folds]
        if len(others) < 2:
            out = frozenset({fold})
            return self._predicted(out, self._fitter.rows_outside(out))
        if self._outside is None or self._outside[0] != own:  # the folds of a part come together
            self._outside = None  # before the next one takes as much
            self._outside = own, self._around(own, others)
        inner = self._outside[1]
        return inner if len(own) == 1 else inner.take(self._library.folds[inner.rows] != fold)

    def _around(self, own: frozenset[int], others: Sequence[frozenset[int]]) -> _Inner:
        """The rows of each of the `others`, predicted without it and without `own`; of several
        folds in `own` their rows too, predicted without them all."""
        found = [self._half(other, own) for other in others]
        if len(own) > 1:
            found.append(self._predicted(own, self._fitter.rows_in(own)))
        return _Inner.of(found)

    def _half(self, part: frozenset[int], without: frozenset[int]) -> _Inner:
        """The rows of `part` predicted without both. Those of `without` wait for their turn, and
        nothing is kept that was used: with whole probabilities these are many times the library."""
        waiting = self._waiting.pop((part, without), None)
        if waiting is not None:
            return waiting
        both = self._predicted(part | without, self._fitter.rows_in(part | without))
        in_part = np.isin(self._library.folds[both.rows], sorted(part))
        if without & self._library.weighted_folds:
            self._waiting[without, part] = both.take(~in_part)
        return both.take(in_part)

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
