"""What is done to probabilities so that they mean what they say, as a value that blend.json holds.

Temperature and vector scaling of Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural
networks", ICML 2017, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ensemble.temperature import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    apply_temperature,
    fit_temperature,
    fit_temperatures_without,
    temper,
)
from ensemble.temperature_kernels import PROBABILITY_FLOOR
from ensemble.vector_scaling import apply_vector_scaling, fit_vector_scaling

__all__ = [
    "MAX_TEMPERATURE",
    "MIN_TEMPERATURE",
    "NO_CALIBRATION",
    "PROBABILITY_FLOOR",
    "Calibration",
    "CalibrationKind",
    "apply_temperature",
    "fit_calibration",
    "fit_temperature",
    "fit_temperatures_without",
    "temper",
]

CalibrationKind = Literal["none", "temperature", "vector"]


def _check_kind(kind: object) -> None:
    kinds = get_args(CalibrationKind)
    if kind in kinds:
        return
    near = get_close_matches(str(kind), kinds, n=1)
    hint = f": did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"expected a calibration of {', '.join(kinds)}, got {kind!r}{hint}")


@dataclass(frozen=True)
class Calibration:
    """One fitted calibration. `temperature` T of "temperature": softmax(log p / T). `scale` and
    `bias` (C,) of "vector": softmax(scale log p + bias). Raises ValueError for an unknown kind and
    for numbers that are missing, not finite or of another kind."""

    kind: CalibrationKind
    temperature: float = 1.0
    scale: tuple[float, ...] | None = None
    bias: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        if not (math.isfinite(self.temperature) and self.temperature > 0.0):
            raise ValueError(f"calibration: expected a temperature above 0, got {self.temperature}")
        if self.kind != "temperature" and self.temperature != 1.0:
            raise ValueError(
                f'calibration "{self.kind}": expected no temperature, got {self.temperature}'
            )
        if self.kind != "vector":
            if self.scale is not None or self.bias is not None:
                raise ValueError(f'calibration "{self.kind}": expected no scale and no bias')
            return
        if not self.scale or not self.bias or len(self.scale) != len(self.bias):
            raise ValueError(
                f'calibration "vector": expected one scale and one bias for each class, '
                f"got {len(self.scale or ())} and {len(self.bias or ())}"
            )
        if not all(math.isfinite(value) for value in self.scale + self.bias):
            raise ValueError('calibration "vector": expected finite scales and biases')

    def __call__(self, proba: np.ndarray) -> NDArray[np.float64]:
        """The calibrated `proba` (n, C), as (n, C) float64; of kind "none" the same values. Raises
        ValueError on another number of classes."""
        if self.kind == "temperature":
            return apply_temperature(proba, self.temperature)
        if self.scale is not None and self.bias is not None:
            return apply_vector_scaling(proba, np.array(self.scale), np.array(self.bias))
        return proba.astype(np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, only those that the kind has."""
        if self.kind == "temperature":
            return {"kind": self.kind, "temperature": self.temperature}
        if self.scale is not None and self.bias is not None:
            return {"kind": self.kind, "scale": list(self.scale), "bias": list(self.bias)}
        return {"kind": self.kind}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """What `to_dict` gave. Raises ValueError for anything else."""
        kind = data.get("kind")
        _check_kind(kind)
        expected = {"temperature": {"temperature"}, "vector": {"scale", "bias"}}.get(
            str(kind), set()
        )
        if set(data) != expected | {"kind"}:
            raise ValueError(
                f'calibration "{kind}": expected {sorted(expected | {"kind"})}, got {sorted(data)}'
            )
        if kind == "temperature":
            return cls("temperature", temperature=_floats(kind, [data["temperature"]])[0])
        if kind == "vector":
            return cls(
                "vector", scale=_floats(kind, data["scale"]), bias=_floats(kind, data["bias"])
            )
        return NO_CALIBRATION


NO_CALIBRATION = Calibration("none")


def fit_calibration(
    kind: CalibrationKind,
    proba: np.ndarray,
    labels: np.ndarray,
    *,
    row_weights: np.ndarray | None = None,
) -> Calibration:
    """The calibration of that kind with the least log loss on these very rows (vector scaling with
    its small pull to the identity). `proba`: (N, C), exact 0 and 1 allowed. `labels`: (N,), all
    known. `row_weights`: (N,), None for all 1. Raises ValueError for an unknown kind, a shape
    mismatch, NaN or impossible row weights."""
    _check_kind(kind)
    if kind == "temperature":
        fitted = fit_temperature(proba, labels, row_weights=row_weights)
        return Calibration(kind, temperature=fitted)
    if kind == "vector":
        scale, bias = fit_vector_scaling(proba, labels, row_weights=row_weights)
        return Calibration(kind, scale=tuple(scale.tolist()), bias=tuple(bias.tolist()))
    return NO_CALIBRATION


def _floats(kind: str, values: Iterable[Any]) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise ValueError(f'calibration "{kind}": expected numbers, got {values!r}') from error
