"""What one file says, before it is matched to the labels and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ensemble.sources.label_table import LabelTable


@dataclass(frozen=True, eq=False)
class RawPredictions:
    """N rows as they stand in a file, C numbers each that should be probabilities.

    where    the file or folder, for messages
    ids      (N,) str, each once
    values   (N, C) float
    classes  names of the columns, or None where they are only numbered
    labels   what the file itself says about its rows, or None
    exact    whether a row more than the labels have is an error (a run on other data) instead of
             a row to leave out
    configuration  that a run's store has of the member
    """

    where: str
    ids: NDArray[np.object_]
    values: NDArray[np.floating]
    classes: tuple[str, ...] | None
    labels: LabelTable | None = None
    exact: bool = False
    notes: tuple[str, ...] = ()
    configuration: Mapping[str, object] = field(default_factory=dict)
