"""A blend as a value: what was fitted, how well it scores, and how it predicts. `blend.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.average import WEIGHT_TOLERANCE, check_members
from ensemble.calibration import apply_temperature
from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.predictions import Predictions

VERSION = 1
NO_FOLD = -1


@dataclass(frozen=True)
class Score:
    """A metric's value with its bootstrap interval (None where no resamples were asked for)."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class JudgedScore(Score):
    """Over all rows, and over the rows outside the probe fold: configurations were selected on
    the probe fold, which flatters them there."""

    without_probe_fold: Score


@dataclass(frozen=True)
class SingleScore(JudgedScore):
    """The best single member under the same treatment: chosen on the other folds, judged on the
    held-out one. `config_id` is the choice on all rows."""

    config_id: str


@dataclass(frozen=True)
class NestedScores:
    """The scores to believe. `difference` is blend minus best single in the metric's own units,
    on the same resamples."""

    blend: JudgedScore
    best_single: SingleScore
    difference: JudgedScore


@dataclass(frozen=True)
class MethodScore:
    """One way of weighing. `in_sample` is judged on the rows that it was fitted on, as are
    `weights` (by configuration) on all rows."""

    name: str
    nested: float
    nested_without_probe_fold: float
    in_sample: float
    weights: Mapping[str, float]


@dataclass(frozen=True)
class BlendMember:
    """One configuration: its weight and temperature in the blend, and the values of its own OOF
    probabilities as they are stored (`score` is the blend's metric)."""

    config_id: str
    weight: float
    temperature: float
    score: float
    log_loss: float
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class Blend:
    """Weights and temperatures fitted on an OOF store, with their scores.

    `members` are all that were offered, also those of weight 0, by falling weight and then name.
    `metrics` holds the nested log_loss, accuracy and macro_f1 of "blend" and "best_single".
    `in_sample` is the metric on the rows that the weights were fitted on. `certificate` bounds how
    much log loss any other weights could gain in-sample; None unless `method` is convex.
    """

    metric: str
    method: str
    classes: tuple[str, ...]
    members: tuple[BlendMember, ...]
    nested: NestedScores
    methods: tuple[MethodScore, ...]
    metrics: Mapping[str, Mapping[str, float]]
    in_sample: float
    n_rows: int
    n_folds: int
    probe_fold: int
    confidence: float
    bootstrap: int
    certificate: float | None = None
    data_fingerprint: str | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        total = sum(member.weight for member in self.members)
        if not abs(total - 1.0) <= WEIGHT_TOLERANCE or min(m.weight for m in self.members) < 0:
            raise BlendError(f"expected non-negative weights with a sum of 1, got a sum of {total}")

    @property
    def score(self) -> JudgedScore:
        """The headline: the nested score, with the choice of the method inside the loop."""
        return self.nested.blend

    @property
    def used_members(self) -> tuple[BlendMember, ...]:
        """The members with weight: all that predicting needs."""
        return tuple(member for member in self.members if member.weight > 0)

    def combine(self, probs: Mapping[str, np.ndarray]) -> NDArray[np.float64]:
        """Blend the probabilities of the members' fold models.

        `probs`: by config_id, (folds, samples, classes); members without weight may be missing.
        Each fold is tempered with its member's temperature, then averaged over folds, then over
        members. Returns (samples, classes) float64. Raises BlendError for a missing member or
        other samples or classes, ValueError for NaN.
        """
        self._check_present(probs)
        total: NDArray[np.float64] | None = None
        for member in self.used_members:
            folds = np.asarray(probs[member.config_id])
            check_members(folds)
            shape = (len(folds[0]) if total is None else len(total), len(self.classes))
            if folds.shape[1:] != shape:
                raise BlendError(
                    f"configuration {member.config_id}: expected {shape[0]} samples of "
                    f"{shape[1]} classes, got {folds.shape[1:]}"
                )
            if total is None:
                total = np.zeros(shape)
            for fold in folds:
                share = member.weight / len(folds)
                total += share * apply_temperature(fold, member.temperature)
        assert total is not None  # weights sum to 1, so one member is used
        return total

    def predict(self, test: Mapping[str, Sequence[Predictions]]) -> Predictions:
        """Blend stored predictions, one per fold of each member, aligned by id.

        Needs only members with weight. Returns the rows of the first used member's first fold, in
        that order, with its labels and fold -1. Raises BlendError when a member or an id is
        missing.
        """
        self._check_present(test)
        first = test[self.used_members[0].config_id][0]
        probs = {}
        for member in self.used_members:
            try:
                folds = [part.aligned_to(first.ids).proba for part in test[member.config_id]]
            except BlendError as error:
                raise BlendError(f"configuration {member.config_id}: {error}") from error
            probs[member.config_id] = np.stack(folds)
        proba = self.combine(probs).astype(np.float32)
        return Predictions(first.ids, first.labels, np.full(first.n_rows, NO_FOLD), proba)

    def to_dict(self) -> dict[str, object]:
        """Plain values, as JSON has them."""
        return {"version": self.version} | asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Blend:
        """The inverse of `to_dict`. Raises BlendError for another version or shape."""
        version = data.get("version") if isinstance(data, Mapping) else None
        if version != VERSION:
            newer = isinstance(version, int) and version > VERSION
            hint = ": upgrade foldblend" if newer else ""
            raise BlendError(f"expected a blend of version {VERSION}, got {version!r}{hint}")
        try:
            return _parse(dict(data))
        except BlendError:
            raise
        except KeyError as error:
            raise BlendError(f"expected a blend with the key {error}, got none") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise BlendError(f"expected a blend of version {VERSION}: {error}") from error

    def _check_present(self, given: Mapping[str, Sequence[object] | np.ndarray]) -> None:
        for member in self.used_members:
            if not len(given.get(member.config_id, ())):
                raise BlendError(
                    f"expected predictions of configuration {member.config_id} "
                    f"(weight {member.weight:.3g}), got {', '.join(sorted(given)) or 'none'}"
                )


def write_blend(location: Location, blend: Blend) -> None:
    """Write a blend as JSON for people and programs. Raises ValueError on NaN, which JSON lacks."""
    location.write_text(json.dumps(blend.to_dict(), indent=2, allow_nan=False) + "\n")


def read_blend(location: Location) -> Blend:
    """Read what `write_blend` wrote. Raises BlendError naming the file; FileNotFoundError."""
    text = location.read_bytes()
    try:
        return Blend.from_dict(json.loads(text))
    except BlendError as error:
        raise BlendError(f"{location}: {error}") from error
    except ValueError as error:
        raise BlendError(f"{location}: expected JSON, got {error}") from error


def _parse(data: dict) -> Blend:
    nested = data.pop("nested")
    return Blend(
        classes=tuple(data.pop("classes")),
        members=tuple(BlendMember(**member) for member in data.pop("members")),
        nested=NestedScores(
            blend=JudgedScore(**_judged(nested["blend"])),
            best_single=SingleScore(**_judged(nested["best_single"])),
            difference=JudgedScore(**_judged(nested["difference"])),
        ),
        methods=tuple(MethodScore(**method) for method in data.pop("methods")),
        **data,
    )


def _judged(data: dict) -> dict:
    return data | {"without_probe_fold": Score(**data["without_probe_fold"])}
