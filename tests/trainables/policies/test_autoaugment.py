from __future__ import annotations

import random

import numpy as np
import pytest

from trainables.policies.autoaugment import PAIRS, draw_autoaugment
from trainables.policies.operations import OPERATIONS


def drawn(count: int, strength: float) -> list[tuple[tuple[str, float], ...]]:
    chooser, generator = random.Random(0), np.random.default_rng(0)
    return [
        draw_autoaugment(chooser, generator, 32, strength=strength, fill=0)["chosen"]
        for _ in range(count)
    ]


def test_the_table_is_torchvisions() -> None:
    from torchvision.transforms.autoaugment import AutoAugment, AutoAugmentPolicy

    theirs = AutoAugment(AutoAugmentPolicy.IMAGENET).policies
    ours = [tuple((name.replace("_", ""), p, level) for name, p, level in pair) for pair in PAIRS]
    assert ours == [
        tuple((name.lower(), p, level or 0) for name, p, level in pair) for pair in theirs
    ]


def test_every_operation_of_the_table_is_known() -> None:
    assert {name for pair in PAIRS for name, _, _ in pair} <= set(OPERATIONS)


def test_at_half_strength_magnitudes_are_the_papers() -> None:
    degrees = {
        round(abs(value), 6)
        for chosen in drawn(2000, 0.5)
        for name, value in chosen
        if name == "rotate"
    }
    assert degrees == {10.0, round(30.0 * 8 / 9, 6), 30.0}


def test_probabilities_are_the_papers_from_half_strength_on() -> None:
    expected = np.mean([sum(p for _, p, _ in pair) for pair in PAIRS])
    for strength in (0.5, 1.0):
        found = np.mean([len(chosen) for chosen in drawn(4000, strength)])
        assert found == pytest.approx(expected, rel=0.05)
    assert not any(drawn(200, 0.0))
