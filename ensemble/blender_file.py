"""A `FoldBlender`'s parameters and class labels as plain values that JSON has, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ensemble.errors import BlendError

LABEL_KINDS = "biufUO"  # numpy's letters: booleans, numbers, text
PLAIN = (bool, int, float, str)


def plain_parameters(parameters: Mapping[str, object]) -> dict[str, object]:
    """Numbers, text, None, and lists of them. Raises ValueError, naming the parameter, for
    anything else (a RandomState)."""
    return {name: _plain(name, value) for name, value in parameters.items()}


def _plain(name: str, value: object) -> object:
    if isinstance(value, list | tuple):
        return [_plain(name, each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, PLAIN):
        return value
    raise ValueError(f"{name}: expected a number, text or None to save, got {value!r}")


def parameters_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `plain_parameters`; sequences come back as tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
    }


def plain_classes(classes: np.ndarray) -> dict[str, object]:
    """Labels (C,) with their dtype. Raises ValueError unless they are numbers, booleans or text."""
    values = classes.tolist()
    if classes.dtype.kind not in LABEL_KINDS or not all(isinstance(v, PLAIN) for v in values):
        raise ValueError(
            f"expected labels that are numbers or text to save, got {classes.dtype} {values[:3]}"
        )
    return {"dtype": "object" if classes.dtype.kind == "O" else classes.dtype.str, "values": values}


def read_classes(plain: Mapping[str, Any]) -> np.ndarray:
    """The inverse of `plain_classes`. Raises BlendError for another dtype."""
    dtype = np.dtype(plain["dtype"])
    if dtype.kind not in LABEL_KINDS:
        raise BlendError(f"expected labels that are numbers or text, got {dtype}")
    return np.array(plain["values"], dtype=dtype)
