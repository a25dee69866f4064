"""A blend as a value: what was fitted, how well it scores, and how it predicts. `blend.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensemble.average import WEIGHT_TOLERANCE, check_members
from ensemble.blend_scores import JudgedScore, NestedScores, Score, SingleScore, scores_from
from ensemble.calibration import NO_CALIBRATION, Calibration, apply_temperature
from ensemble.combine import Combination
from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.hierarchy import divide_anew
from ensemble.predictions import Predictions
from ensemble.rules import Rules

__all__ = [
    "AppliedRules",
    "Blend",
    "BlendMember",
    "JudgedScore",
    "MethodScore",
    "NestedScores",
    "Score",
    "SecondBlend",
    "SingleScore",
    "Stability",
    "Stage",
    "read_blend",
    "write_blend",
]

VERSION = 2
NO_FOLD = -1
RULES = "rules"  # the last stage, where there are some
BEFORE_RULES = "before_rules"  # what the blend without them is called among its metrics


@dataclass(frozen=True)
class MethodScore:
    """One way of combining. `in_sample` is judged on the rows that it was fitted on, as are
    `weights` (by configuration) on all rows. `behind`: how much worse its nested score is than the
    best method's (0 or more, in the metric's units), and `standard_error` that of this paired
    difference; None where there was no choice."""

    name: str
    nested: float
    nested_without_probe_fold: float
    in_sample: float
    weights: Mapping[str, float]
    behind: float | None = None
    standard_error: float | None = None


@dataclass(frozen=True)
class Stability:
    """A member's weight over `refits` of the chosen method on bootstrap resamples of the rows (of
    whole groups): mean, the 5th and 95th percentile, and the share of refits that used it."""

    mean: float
    low: float
    high: float
    used: float
    refits: int


@dataclass(frozen=True)
class BlendMember:
    """One configuration: its weight and temperature in the blend, and the values of its own OOF
    probabilities as they are stored (`score` is the blend's metric; None where only true-class
    probabilities were there). `without` is the nested score of the same method refitted without
    this member, `only_right` the share of rows that no other member gets right."""

    config_id: str
    weight: float
    temperature: float
    score: float
    log_loss: float
    accuracy: float | None
    macro_f1: float | None
    stability: Stability | None = None
    without: float | None = None
    only_right: float | None = None


@dataclass(frozen=True)
class Stage:
    """The nested score as the blend is built up: after "weights", "calibration", "groups" and
    "rules", as far as each is used."""

    name: str
    nested: float


@dataclass(frozen=True)
class SecondBlend:
    """Hierarchical inference: among `classes` (indices) the probability that the blend gives them
    together is divided anew, by a blend of its own with `weights` (one a member, in the order of
    `Blend.members`)."""

    classes: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class AppliedRules:
    """A user's overrides: where they came from, how many labelled rows they touch, and the trust
    (0 to 1, times each rule's own strength) that they earned on those rows."""

    source: str
    rows: int
    trust: float


@dataclass(frozen=True)
class Blend:
    """What was fitted on an OOF store, with its scores.

    Members are tempered, combined, calibrated, refined within groups of classes, and overridden by
    rules, in this order. `members` are all that were offered, also those of weight 0, by falling
    weight and then name; `combination` has its arrays in that order. `metrics` holds the nested
    values of "blend" and "best_single" by metric name. `in_sample` is the metric on the rows that
    the weights were fitted on, after the rules; that of each of `methods` is before. Where there
    are rules, `before_rules` and `metrics["before_rules"]` are what the blend scores without them.
    `certificate` bounds how much log loss any other weights could gain
    in-sample; None unless `method` is convex. `choice` says in a line why `method` was taken.
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
    combination: Combination
    calibration: Calibration = NO_CALIBRATION
    groups: tuple[SecondBlend, ...] = ()
    rules: AppliedRules | None = None
    stages: tuple[Stage, ...] = ()
    choice: str = ""
    certificate: float | None = None
    data_fingerprint: str | None = None
    before_rules: NestedScores | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        total = sum(member.weight for member in self.members)
        if not abs(total - 1.0) <= WEIGHT_TOLERANCE or min(m.weight for m in self.members) < 0:
            raise BlendError(f"expected non-negative weights with a sum of 1, got a sum of {total}")
        self._check_parts()

    def _check_parts(self) -> None:
        """What is fitted must be of these members and classes: a file may say anything."""
        own = np.array([member.weight for member in self.members])
        weights = self.combination.weights
        if weights.shape != own.shape or not np.allclose(weights, own, atol=WEIGHT_TOLERANCE):
            raise BlendError(
                f"expected a combination with the {len(own)} members' own weights, "
                f"got {', '.join(f'{weight:.4g}' for weight in weights)}"
            )
        n_classes = len(self.classes)
        for name in ("class_weights", "intercept"):
            shape = self.combination.parameters.get(name, np.empty(n_classes)).shape
            if shape[-1] != n_classes:
                raise BlendError(f"{name}: expected {n_classes} classes, got {shape[-1]}")
        if self.calibration.scale is not None and len(self.calibration.scale) != n_classes:
            raise BlendError(
                f"calibration: expected {n_classes} classes, got {len(self.calibration.scale)}"
            )
        for group in self.groups:
            if len(group.weights) != len(own):
                raise BlendError(
                    f"group {group.classes}: expected {len(own)} weights, got {len(group.weights)}"
                )
            if not all(0 <= index < n_classes for index in group.classes):
                raise BlendError(
                    f"group {group.classes}: expected classes from 0 to {n_classes - 1}"
                )

    @property
    def has_probe_fold(self) -> bool:
        """Whether configurations were selected on a fold, which flatters them there."""
        return self.probe_fold >= 0

    @property
    def score(self) -> JudgedScore:
        """The headline: the nested score, with the choice of the method inside the loop."""
        return self.nested.blend

    def without_rules(self) -> Blend:
        """The same blend, and its scores, up to but without rules. Raises BlendError where it is
        of an earlier version, which did not keep them."""
        if self.rules is None:
            return self
        if self.before_rules is None:
            raise BlendError(
                f"expected the scores before the rules of {self.rules.source}, got none from an "
                "earlier version: fit the blend again"
            )
        own = next(one for one in self.methods if one.name == self.method)
        metrics = {name: each for name, each in self.metrics.items() if name != BEFORE_RULES}
        return replace(
            self,
            nested=self.before_rules,
            metrics=metrics | {"blend": self.metrics[BEFORE_RULES]},
            in_sample=own.in_sample,
            stages=tuple(stage for stage in self.stages if stage.name != RULES),
            rules=None,
            before_rules=None,
        )

    @property
    def used_members(self) -> tuple[BlendMember, ...]:
        """All that predicting needs: the members with weight, in the blend or a second one."""
        used = zip(self.members, self._is_used, strict=True)
        return tuple(member for member, needed in used if needed)

    def combine(self, probs: Mapping[str, np.ndarray]) -> NDArray[np.float64]:
        """Blend the probabilities of the members' fold models, up to but without rules.

        `probs`: by config_id, (folds, samples, classes); members without weight may be missing.
        Each fold is tempered with its member's temperature and averaged over folds; then members
        are combined, calibrated, and refined within groups. Returns (samples, classes) float64.
        Raises BlendError for a missing member or other samples or classes, ValueError for NaN.
        """
        self._check_present(probs)
        means: list[NDArray[np.float64] | None] = [None] * len(self.members)
        for index, member in enumerate(self.members):
            if self._is_used[index]:
                n_rows = next((len(mean) for mean in means if mean is not None), None)
                means[index] = self._mean_of_folds(
                    member, np.asarray(probs[member.config_id]), n_rows
                )
        proba = self.calibration(self.combination(means))
        for group in self.groups:
            proba = divide_anew(proba, means, group.classes, np.array(group.weights))
        return proba

    def predict(
        self, test: Mapping[str, Sequence[Predictions]], rules: Rules | None = None
    ) -> Predictions:
        """Blend stored predictions, one per fold of each member, aligned by id, and apply `rules`
        with the trust that the blend found for them.

        Needs only the used members. Returns the rows of the first used member's first fold, in
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
                raise BlendError(f"member {member.config_id}: {error}") from error
            probs[member.config_id] = np.stack(folds)
        proba = self.combine(probs)
        if rules is not None:
            proba = rules.apply(first.ids, proba, self._trust(rules))
        nowhere = np.full(first.n_rows, NO_FOLD, dtype=np.int16)
        return Predictions(first.ids, first.labels, nowhere, proba.astype(np.float32))

    def to_dict(self) -> dict[str, object]:
        """Plain values, as JSON has them."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("combination", "calibration"):
            plain[name] = plain[name].to_dict()
        if self.before_rules is None:
            del plain["before_rules"]  # so that a blend without rules is as it always was
        return {"version": self.version} | {name: _plain(value) for name, value in plain.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Blend:
        """The inverse of `to_dict`; reads version 1 too. Raises BlendError for another version or
        shape."""
        version = data.get("version") if isinstance(data, Mapping) else None
        if version not in (1, VERSION):
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

    def _trust(self, rules: Rules) -> float:
        if self.rules is None:
            raise BlendError(
                f"{rules.source}: this blend was fitted without rules, so nothing is known of "
                "their worth; fit it again with them"
            )
        return self.rules.trust

    @property
    def _is_used(self) -> NDArray[np.bool_]:
        """(M,): which members predicting needs."""
        used = self.combination.needed.copy()
        for group in self.groups:
            used |= np.array(group.weights) > 0
        return used

    def _mean_of_folds(
        self, member: BlendMember, folds: np.ndarray, n_rows: int | None
    ) -> NDArray[np.float64]:
        check_members(folds)
        shape = (folds.shape[1] if n_rows is None else n_rows, len(self.classes))
        if folds.shape[1:] != shape:
            raise BlendError(
                f"member {member.config_id}: expected {shape[0]} samples of "
                f"{shape[1]} classes, got {folds.shape[1:]}"
            )
        total = np.zeros(shape)
        for fold in folds:
            total += apply_temperature(fold, member.temperature)
        return total / len(folds)

    def _check_present(self, given: Mapping[str, Sequence[object] | np.ndarray]) -> None:
        for member in self.used_members:
            if not len(given.get(member.config_id, ())):
                raise BlendError(
                    f"expected predictions of member {member.config_id} "
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


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _parse(data: dict) -> Blend:
    before = data.pop("before_rules", None)
    members = tuple(_member(dict(member)) for member in data.pop("members"))
    if data.pop("version") == 1:  # only means of members, never calibrated
        data["combination"] = {"kind": "mean", "weights": [one.weight for one in members]}
    rules = data.pop("rules", None)
    return Blend(
        classes=tuple(data.pop("classes")),
        members=members,
        nested=scores_from(data.pop("nested")),
        before_rules=scores_from(before) if before else None,
        methods=tuple(MethodScore(**method) for method in data.pop("methods")),
        combination=Combination.from_dict(data.pop("combination")),
        calibration=Calibration.from_dict(data.pop("calibration", {"kind": "none"})),
        groups=tuple(
            SecondBlend(tuple(group["classes"]), tuple(group["weights"]))
            for group in data.pop("groups", ())
        ),
        rules=AppliedRules(**rules) if rules else None,
        stages=tuple(Stage(**stage) for stage in data.pop("stages", ())),
        **data,
    )


def _member(data: dict) -> BlendMember:
    stability = data.pop("stability", None)
    return BlendMember(stability=Stability(**stability) if stability else None, **data)
