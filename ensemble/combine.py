"""How members' probabilities become one, as a value: it predicts, and goes to JSON and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ensemble.average import check_member, check_weights, in_blocks, mean_block
from ensemble.class_weights import check_class_weights, class_mean_block
from ensemble.errors import BlendError
from ensemble.logit_mean import log_mean_block
from ensemble.rank_mean import check_grid, rank_mean_block
from ensemble.stacking import check_coefficients, stack_block
from ensemble.vote import vote_block

NEEDS_MEMBERS = ("grid", "class_weights", "coef")  # parameters whose first axis is the members'


@dataclass(frozen=True)
class Kind:
    """`block` combines a few rows of all members; `parameters` are the arrays that it takes, beside
    the weights where `weighted`."""

    block: Callable[..., NDArray[np.float64]]
    parameters: tuple[str, ...] = ()
    weighted: bool = True


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "mean": Kind(mean_block),
        "log_mean": Kind(log_mean_block),
        "rank_mean": Kind(rank_mean_block, ("grid",)),
        "vote": Kind(vote_block),
        "class_mean": Kind(class_mean_block, ("class_weights",), weighted=False),
        "stacking": Kind(stack_block, ("coef", "intercept"), weighted=False),
    }
)


@dataclass(frozen=True, eq=False)
class Combination:
    """M members' probabilities (after their temperatures) become one.

    kind        one of `KINDS`
    weights     (M,) float64, non-negative, summing to 1: a member's share. Of weight 0: predicting
                does not need it
    parameters  the arrays of the kind: `grid` (M, Q) of "rank_mean", `class_weights` (M, C) of
                "class_mean", `coef` (M,) or (M, C, C) and `intercept` (C,) of "stacking"

    The arrays are copied and read-only. One member returns its own probabilities under "mean",
    "log_mean" and "class_mean"; the other kinds do not promise that. Raises BlendError for an
    unknown kind or arrays that do not fit.
    """

    kind: str
    weights: NDArray[np.float64]
    parameters: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            nearest = get_close_matches(str(self.kind), KINDS, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise BlendError(
                f"unknown combination {self.kind!r}, expected one of {', '.join(KINDS)}{hint}"
            )
        expected = KINDS[self.kind].parameters
        if set(self.parameters) != set(expected):
            raise BlendError(
                f"combination {self.kind}: expected the parameters {_listed(expected)}, "
                f"got {_listed(self.parameters)}"
            )
        try:
            weights = _read_only(self.weights)
            parameters = {name: _read_only(self.parameters[name]) for name in expected}
            _check_arrays(weights, parameters)
        except (TypeError, ValueError) as error:
            raise BlendError(f"combination {self.kind}: {error}") from error
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "parameters", parameters)

    @property
    def needed(self) -> NDArray[np.bool_]:
        """(M,): the members that predicting needs."""
        return self.weights > 0

    def __call__(self, probs: np.ndarray | Sequence[np.ndarray | None]) -> NDArray[np.float64]:
        """Combine `probs`, (M, n, C) or M arrays (n, C), of which those of members that are not
        needed may be None. Returns (n, C) float64, a few rows at a time. Raises ValueError, naming
        the member, for one that is missing, another shape, NaN or values beyond 0 and 1."""
        members = self._needed_members(probs)
        kind, kept = KINDS[self.kind], self.only(self.needed)
        arrays = dict(kept.parameters) | ({"weights": kept.weights} if kind.weighted else {})
        return in_blocks(members, partial(kind.block, **arrays))

    def of_true_class(self, p_true: np.ndarray) -> NDArray[np.float64]:
        """(n,) float64: the true class's probability under a "mean", from the members' `p_true`
        (M, n) alone. Raises ValueError for other kinds, another shape or NaN."""
        if self.kind != "mean":
            raise ValueError(
                f"a {self.kind} needs the probabilities of all classes, not the true class's alone"
            )
        if p_true.ndim != 2 or len(p_true) != len(self.weights):
            raise ValueError(
                f"expected true-class probabilities of {len(self.weights)} members (members, "
                f"samples), got {p_true.shape}"
            )
        total = np.zeros(p_true.shape[1])
        for member in np.flatnonzero(self.needed):
            total += np.multiply(p_true[member], self.weights[member], dtype=np.float64)
            if total.size and np.isnan(total.min()):
                raise ValueError(f"member {member}: expected probabilities, got NaN")
        return total

    def only(self, members: np.ndarray) -> Combination:
        """The same for fewer members: those in the mask `members` (M,), which must have all that
        are needed. Raises ValueError otherwise."""
        if members.shape != self.weights.shape or members.dtype != np.bool_:
            raise ValueError(
                f"expected a mask of {len(self.weights)} members, got {members.dtype} "
                f"{members.shape}"
            )
        if np.any(self.needed & ~members):
            member = int(np.argmax(self.needed & ~members))
            raise ValueError(f"expected to keep member {member}: its weight is above 0")
        if members.all():
            return self
        parameters = {
            name: values[members] if name in NEEDS_MEMBERS else values
            for name, values in self.parameters.items()
        }
        return Combination(self.kind, self.weights[members], parameters)

    def take(self, order: np.ndarray) -> Combination:
        """The same with the members in another `order` (M,), indices of each once."""
        parameters = {
            name: values[order] if name in NEEDS_MEMBERS else values
            for name, values in self.parameters.items()
        }
        return Combination(self.kind, self.weights[order], parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Combination) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.kind, self.weights.tobytes()))

    def to_dict(self) -> dict[str, object]:
        """Plain values, as JSON has them."""
        plain = {name: values.tolist() for name, values in self.parameters.items()}
        return {"kind": self.kind, "weights": self.weights.tolist(), "parameters": plain}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Combination:
        """The inverse of `to_dict`; "parameters" may be left out where there are none. Raises
        BlendError for an unknown kind, other keys or arrays that do not fit."""
        unknown = sorted(set(data) - {"kind", "weights", "parameters"})
        missing = sorted({"kind", "weights"} - set(data))
        parameters = data.get("parameters", {})
        if unknown or missing or not isinstance(parameters, Mapping):
            raise BlendError(
                f"expected a combination with kind, weights and parameters, got {_listed(data)}"
            )
        return cls(str(data["kind"]), data["weights"], parameters)  # type: ignore[arg-type]

    def _needed_members(self, probs: np.ndarray | Sequence[np.ndarray | None]) -> list[np.ndarray]:
        if len(probs) != len(self.weights):
            raise ValueError(f"expected {len(self.weights)} members, got {len(probs)}")
        members: list[np.ndarray] = []
        for index in np.flatnonzero(self.needed).tolist():
            proba = probs[index]
            if proba is None:
                raise ValueError(f"member {index}: expected probabilities, got none")
            shape = members[0].shape if members else (len(proba), *self._classes(proba))
            if proba.shape != shape or not proba.size:
                raise ValueError(
                    f"member {index}: expected probabilities of shape {shape}, got {proba.shape}"
                )
            check_member(index, proba)
            members.append(proba)
        return members

    def _classes(self, proba: np.ndarray) -> tuple[int]:
        """The number of classes: the parameters', where they have one."""
        for name in ("class_weights", "intercept"):
            if name in self.parameters:
                return (self.parameters[name].shape[-1],)
        return (proba.shape[-1] if proba.ndim else 0,)


def _check_arrays(
    weights: NDArray[np.float64], parameters: Mapping[str, NDArray[np.float64]]
) -> None:
    if weights.ndim != 1 or not weights.size:
        raise ValueError(f"expected a weight for each member, got shape {weights.shape}")
    check_weights(weights, len(weights))
    if "grid" in parameters:
        check_grid(parameters["grid"], len(weights))
    if "class_weights" in parameters:
        matrix = parameters["class_weights"]
        check_class_weights(matrix, (len(weights), matrix.shape[-1] if matrix.ndim else 0))
    if "coef" in parameters:
        intercept = parameters["intercept"]
        check_coefficients(parameters["coef"], intercept, len(weights), intercept.size)


def _read_only(values: object) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _listed(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(names) or "none"
