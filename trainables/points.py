"""Evenly spaced points of a run, for cycles of the learning rate and for snapshots alike."""

from __future__ import annotations


def even_points(n: int, count: int) -> tuple[int, ...]:
    """The ends of `count` equal parts of `n` epochs or steps: whole numbers, the last is `n`. They
    rise strictly where count <= n; where there are more, some are equal."""
    return tuple((2 * n * part + count) // (2 * count) for part in range(1, count + 1))
