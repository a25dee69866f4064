from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from trainables.policies.operations import FOURTEEN, OPERATIONS
from trainables.policies.randaugment import draw_operation, draw_randaugment


def drawn(count: int, operations: int, strength: float) -> list[tuple[tuple[str, float], ...]]:
    chooser, generator = random.Random(0), np.random.default_rng(0)
    return [
        draw_randaugment(chooser, generator, 32, operations=operations, strength=strength, fill=0)[
            "chosen"
        ]
        for _ in range(count)
    ]


@pytest.mark.parametrize("operations", [1, 2, 5])
def test_it_takes_so_many_operations(operations: int) -> None:
    assert {len(one) for one in drawn(50, operations, 0.9)} == {operations}


def test_every_operation_is_as_likely_as_another() -> None:
    counts = Counter(name for chosen in drawn(7000, 1, 0.9) for name, _ in chosen)
    assert set(counts) == set(FOURTEEN)
    assert 400 < min(counts.values()) <= max(counts.values()) < 600


def test_the_magnitude_is_the_strength_and_the_sign_is_random() -> None:
    degrees = {value for chosen in drawn(500, 2, 0.5) for name, value in chosen if name == "rotate"}
    assert degrees == {15.0, -15.0}


def test_operations_without_a_magnitude_are_rarer_below_half_strength() -> None:
    names = Counter(name for chosen in drawn(4000, 1, 0.1) for name, _ in chosen)
    assert names["equalize"] < 0.5 * names["rotate"]
    assert draw_operation(random.Random(0), "equalize", 0.0, 0.0) is None


def test_wide_ranges_are_wider() -> None:
    one = draw_operation(random.Random(0), "rotate", 1.0, 1.0, wide=True)
    assert one is not None
    assert abs(one[1]) == OPERATIONS["rotate"].wide == 135.0
