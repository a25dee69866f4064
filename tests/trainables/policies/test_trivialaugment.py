from __future__ import annotations

import random

import numpy as np
import pytest

from trainables.policies.operations import FOURTEEN
from trainables.policies.trivialaugment import draw_trivialaugment


def drawn(count: int, strength: float) -> list[tuple[tuple[str, float], ...]]:
    chooser, generator = random.Random(0), np.random.default_rng(0)
    return [
        draw_trivialaugment(chooser, generator, 32, strength=strength, fill=0)["chosen"]
        for _ in range(count)
    ]


def test_it_takes_one_operation_of_fourteen() -> None:
    chosen = drawn(1000, 1.0)
    assert {len(one) for one in chosen} == {1}
    assert {one[0][0] for one in chosen} == set(FOURTEEN)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_magnitudes_are_uniform_up_to_the_strength(strength: float) -> None:
    degrees = [one[0][1] for one in drawn(14000, strength) if one and one[0][0] == "rotate"]
    farthest = 135.0 * strength
    assert max(degrees) == pytest.approx(farthest, rel=0.03)
    assert min(degrees) == pytest.approx(-farthest, rel=0.03)
    assert np.mean(np.abs(degrees)) == pytest.approx(farthest / 2.0, rel=0.1)
