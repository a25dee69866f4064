"""Fitting on the rows outside some folds, and predicting the rows inside them: the one place
where labels meet members. Everything learnt, down to the temperatures, comes from outside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ensemble.calibration import (
    NO_CALIBRATION,
    Calibration,
    CalibrationKind,
    fit_calibration,
    fit_temperatures_without,
    temper,
)
from ensemble.combine import Combination
from ensemble.errors import BlendError
from ensemble.hierarchy import confused_groups, divide_anew, fit_group
from ensemble.library import Library
from ensemble.methods import METHODS, TRUE_CLASS_METHODS, FitRows
from ensemble.metrics import Metric
from ensemble.outcome import Outcome
from ensemble.scratch import MEMORY_BYTES, empty_array

SINGLE = "best_single"  # fitted beside whatever competes
NO_FOLDS: frozenset[int] = frozenset()
BLOCK_VALUES = 1 << 22  # probabilities of all members predicted at once

UNDECIDED = -1  # where only the true class's probability is known


@dataclass(frozen=True)
class FitSettings:
    """What fitting needs to know. `methods`: those that compete, the simplest first. `groups`:
    class indices for second blends, "auto" to find them among the rows at hand."""

    metric: Metric
    methods: tuple[str, ...]
    calibrate: bool = True
    calibrate_blend: CalibrationKind = "temperature"
    greedy_steps: int = 25
    l2: float = 0.0
    groups: tuple[tuple[int, ...], ...] | str = ()
    memory_bytes: int = MEMORY_BYTES


@dataclass(frozen=True, eq=False)
class Way:
    """One method as fitted: members are combined, then calibrated."""

    combination: Combination
    calibration: Calibration


@dataclass(frozen=True, eq=False)
class Fits:
    """What was learnt from some rows, all of it small. `temperatures` (M,); the ways by method;
    the second blends as (classes, weights (M,)), None where none were asked for: a set of folds
    in which "auto" found none still has the stage."""

    temperatures: NDArray[np.float64]
    ways: Mapping[str, Way]
    groups: tuple[tuple[tuple[int, ...], NDArray[np.float64]], ...] | None

    def stages(
        self, method: str, probs: NDArray[np.float32] | Sequence[NDArray[np.float32]]
    ) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """The prediction (n, C) of tempered members `probs` (M, n, C) after every stage in use."""
        way = self.ways[method]
        proba = way.combination(probs)
        yield "weights", proba
        if way.calibration.kind != "none":
            proba = way.calibration(proba)
            yield "calibration", proba
        if self.groups is not None:
            for classes, weights in self.groups_of(method):
                proba = divide_anew(proba, probs, classes, weights)
            yield "groups", proba

    def groups_of(self, method: str) -> tuple[tuple[tuple[int, ...], NDArray[np.float64]], ...]:
        """The second blends of `method`. One member alone has none: they need the others."""
        return () if self.groups is None or method == SINGLE else self.groups


@dataclass(eq=False)
class Fitter:
    """Fits and predictions of one library, each set of held-out folds once.

    `held_out`: every set of folds that will be asked for, so that temperatures are found for all
    of them in one go.
    """

    library: Library
    settings: FitSettings
    held_out: Sequence[frozenset[int]]
    say: Callable[[str], None] = lambda text: None
    _fits: dict[frozenset[int], Fits] = field(default_factory=dict, init=False)
    _temperatures: dict[frozenset[int], NDArray[np.float64]] = field(
        default_factory=dict, init=False
    )

    def __post_init__(self) -> None:
        _check_possible(self.library, self.settings)

    @property
    def ways(self) -> tuple[str, ...]:
        """The methods that compete, and the best single member."""
        return tuple(dict.fromkeys((*self.settings.methods, SINGLE)))

    def rows_in(self, folds: frozenset[int]) -> NDArray[np.intp]:
        return np.flatnonzero(np.isin(self.library.folds, sorted(folds)))

    def rows_outside(self, folds: frozenset[int]) -> NDArray[np.intp]:
        return np.flatnonzero(~np.isin(self.library.folds, sorted(folds)))

    def fits(self, held_out: frozenset[int]) -> Fits:
        """Fitted on all rows outside the folds `held_out`, and on no other."""
        if held_out not in self._fits:
            self._fits[held_out] = fit_ways(
                self.fit_rows(held_out),
                self.temperatures(held_out),
                self.settings,
                self.ways,
                self.library.n_classes,
            )
        return self._fits[held_out]

    def fit_rows(self, held_out: frozenset[int]) -> FitRows:
        """What methods learn from: the rows outside `held_out`."""
        library, rows = self.library, self.rows_outside(held_out)
        labels = library.labels[rows]
        probs = self.tempered(rows, self.temperatures(held_out)) if self._whole else None
        if probs is None:
            p_true = np.empty((len(library.names), len(rows)), np.float32)
            for member, column in enumerate(library.p_true):
                np.take(column, rows, out=p_true[member], mode="clip")
        else:
            p_true = np.ascontiguousarray(probs[:, np.arange(len(rows)), labels])
        weights = library.weights_of(rows)
        one = self.settings
        return FitRows(
            labels,
            p_true,
            probs,
            weights,
            one.metric,
            one.greedy_steps,
            one.l2,
            one.memory_bytes,
        )

    def predict(
        self,
        held_out: frozenset[int],
        rows: NDArray[np.intp],
        ways: Sequence[str],
        keep: Collection[str] = (),
    ) -> dict[str, dict[str, Outcome]]:
        """By way and stage, the outcome of `rows` under what was fitted outside `held_out`; of the
        ways in `keep` with their probabilities (float32)."""
        fits, labels = self.fits(held_out), self.library.labels[rows]
        if self.library.probs is None:
            needed = np.any([fits.ways[way].combination.needed for way in ways], axis=0)
            p_true = np.zeros((len(self.library.names), len(rows)), np.float32)
            for member in np.flatnonzero(needed):
                np.take(self.library.p_true[member], rows, out=p_true[member], mode="clip")
            return {
                way: {"weights": of_true_class(fits, way, p_true, self.library.n_classes)}
                for way in ways
            }
        parts: dict[str, dict[str, list[Outcome]]] = {way: {} for way in ways}
        for block in self.blocks(rows):
            probs = self.tempered(rows[block], fits.temperatures)
            for way in ways:
                for stage, proba in fits.stages(way, probs):
                    outcome = outcome_of(labels[block], proba, keep=way in keep)
                    parts[way].setdefault(stage, []).append(outcome)
        return {
            way: {stage: joined(found) for stage, found in stages.items()}
            for way, stages in parts.items()
        }

    @property
    def _whole(self) -> bool:
        """Whether fitting reads more than the true class's probability."""
        one = self.settings
        return self.library.probs is not None and (
            one.calibrate
            or one.calibrate_blend != "none"
            or bool(one.groups)
            or any(METHODS[way].needs_rows(one.metric) for way in self.ways)
        )

    def temperatures(self, held_out: frozenset[int]) -> NDArray[np.float64]:
        if not self.settings.calibrate:
            return np.ones(len(self.library.names))
        if held_out not in self._temperatures:
            self._find_temperatures()
        return self._temperatures[held_out]

    def _find_temperatures(self) -> None:
        library, sets = self.library, list(self.held_out)
        assert library.probs is not None
        found = np.empty((len(sets), len(library.names)))
        for member, proba in enumerate(library.probs):
            self.say(f"temperature of member {member + 1} of {len(library.names)}")
            found[:, member] = fit_temperatures_without(
                proba,
                library.labels,
                library.folds,
                sets,
                row_weights=library.row_weights,
            )
        self._temperatures = dict(zip(sets, found, strict=True))

    def tempered(
        self, rows: NDArray[np.intp], temperatures: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """(M, R, C) float32."""
        library = self.library
        assert library.probs is not None
        shape = (len(library.names), len(rows), library.n_classes)
        out = empty_array(shape, np.float32, memory_bytes=self.settings.memory_bytes)
        for member, proba in enumerate(library.probs):
            one = np.asarray(out[member])
            # Rows are valid; any other mode would first write to a copy of `out`.
            np.take(proba, rows, axis=0, out=one, mode="clip")
            if temperatures[member] != 1.0:
                temper(one, temperatures[member], out=one)
        return out

    def blocks(self, rows: NDArray[np.intp]) -> Iterator[slice]:
        size = max(1, BLOCK_VALUES // (len(self.library.names) * self.library.n_classes))
        for start in range(0, len(rows), size):
            yield slice(start, start + size)


def fit_ways(
    rows: FitRows,
    temperatures: NDArray[np.float64],
    settings: FitSettings,
    ways: Sequence[str],
    n_classes: int,
) -> Fits:
    """Everything that is learnt from `rows`, whose members were tempered with `temperatures`."""
    fitted = {}
    for name in ways:
        combination = METHODS[name].fit(rows)
        fitted[name] = Way(combination, _calibration(combination, rows, settings))
    return Fits(temperatures, fitted, _groups(rows, settings, n_classes))


def _calibration(combination: Combination, rows: FitRows, settings: FitSettings) -> Calibration:
    if settings.calibrate_blend == "none" or rows.probs is None:
        return NO_CALIBRATION
    return fit_calibration(
        settings.calibrate_blend,
        combination(rows.probs).astype(np.float32),
        rows.labels,
        row_weights=rows.row_weights,
    )


def _groups(
    rows: FitRows, settings: FitSettings, n_classes: int
) -> tuple[tuple[tuple[int, ...], NDArray[np.float64]], ...] | None:
    groups = settings.groups
    if not groups or rows.probs is None:
        return None
    if isinstance(groups, str):
        total = np.zeros((len(rows.labels), n_classes))
        for proba in rows.probs:
            total += proba
        groups = confused_groups(
            rows.labels, total.argmax(axis=1), n_classes, row_weights=rows.row_weights
        )
    return tuple(
        (classes, fit_group(rows.probs, rows.labels, classes, rows.row_weights))
        for classes in groups
    )


def of_true_class(fits: Fits, way: str, p_true: NDArray[np.float32], n_classes: int) -> Outcome:
    """The outcome of which no more is known than each row's probability of its true class."""
    known = fits.ways[way].combination.of_true_class(p_true)
    return Outcome(known, np.full(len(known), UNDECIDED), n_classes)


def outcome_of(labels: np.ndarray, proba: NDArray[np.float64], *, keep: bool) -> Outcome:
    """The outcome of `proba` (n, C), which it holds as float32 where `keep`."""
    made = Outcome.of(labels, proba, keep_proba=False)
    kept = proba.astype(np.float32) if keep else None
    return Outcome(made.p_true, made.decided, made.n_classes, kept)


def joined(parts: Sequence[Outcome]) -> Outcome:
    """The rows of all parts, one part after the other."""
    probas = [part.proba for part in parts if part.proba is not None]
    return Outcome(
        np.concatenate([part.p_true for part in parts]),
        np.concatenate([part.decided for part in parts]),
        parts[0].n_classes,
        np.concatenate(probas) if len(probas) == len(parts) else None,
    )


def _check_possible(library: Library, settings: FitSettings) -> None:
    """Only each row's true class was read: say what still works."""
    if library.probs is not None:
        return
    impossible = [name for name in settings.methods if name not in TRUE_CLASS_METHODS]
    if settings.metric.from_true_class is None:
        impossible.append(settings.metric.name)
    if settings.calibrate or settings.calibrate_blend != "none":
        impossible.append("calibration")
    if settings.groups:
        impossible.append("groups")
    if impossible:
        raise BlendError(
            f"{impossible[0]} needs the probabilities of all classes, and only the true class's "
            f"are stored: use log_loss with {', '.join(TRUE_CLASS_METHODS)} and no calibration"
        )
