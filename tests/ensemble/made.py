"""Predictions made for tests: plausible models of known strength, from a seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ensemble.predictions import Predictions
from ensemble.store import StoreMetadata


def member_probabilities(
    seed: int, members: int, rows: int, classes: int, *, zeros: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """probs (members, rows, classes), labels (rows,) and folds (rows,). Members share part of
    their noise; with `zeros`, some rows are exactly 0 or 1, right or wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=rows)
    shared = rng.normal(size=(rows, classes))
    shared[np.arange(rows), labels] += 1.5
    logits = shared + rng.normal(size=(members, rows, classes))
    logits *= rng.uniform(0.3, 3.0, size=(members, 1, 1))
    probs = np.exp(logits - logits.max(axis=2, keepdims=True))
    probs /= probs.sum(axis=2, keepdims=True)
    if zeros:
        certain = rng.random((members, rows)) < 0.3
        probs[certain] = np.eye(classes)[rng.integers(classes, size=int(certain.sum()))]
    return probs.astype(np.float32), labels, rng.permutation(np.arange(rows) % 3)


def members_of(
    probs: NDArray[np.float32], labels: NDArray[np.int64], folds: NDArray[np.int64]
) -> dict[str, Predictions]:
    ids = np.array([f"image {row}.jpg" for row in range(len(labels))], dtype=object)
    return {f"c{i}": Predictions(ids, labels, folds, proba) for i, proba in enumerate(probs)}


def made_members(
    seed: int = 0, members: int = 4, rows: int = 120, classes: int = 3
) -> dict[str, Predictions]:
    return members_of(*member_probabilities(seed, members, rows, classes))


def metadata(
    config_id: str = "c0",
    classes: tuple[str, ...] = ("cat", "dog", "élan"),
    metrics: Mapping[str, float] | None = None,
    fingerprint: str = "f00d",
) -> StoreMetadata:
    configuration = {"backbone": {"name": "test_resnet"}, "optimizer": {"lr": 0.001}}
    return StoreMetadata(
        classes, config_id, configuration, metrics or {"log_loss": 0.5}, fingerprint
    )
