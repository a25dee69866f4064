"""What may be said of augmentation, averaging and views, and what contradicts itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from search_spaces.augmentation import AugmentConfig, AveragingConfig, PreprocessConfig, TtaConfig


def test_shares_of_mixed_batches_sum_to_at_most_one() -> None:
    assert AugmentConfig(name="a", mixup=0.5, cutmix=0.5).mixes
    assert not AugmentConfig(name="a").mixes
    with pytest.raises(ValidationError, match=r"mixup=0\.7 and cutmix=0\.5 are shares"):
        AugmentConfig(name="a", mixup=0.7, cutmix=0.5)


def test_the_least_erased_area_is_at_most_the_largest() -> None:
    with pytest.raises(ValidationError, match=r"erase_min=0\.5 must be at most erase_max=0\.1"):
        AugmentConfig(name="a", erase_min=0.5, erase_max=0.1)


@given(
    across=st.booleans(),
    down=st.booleans(),
    turns=st.booleans(),
    scales=st.integers(1, 4),
    training=st.integers(0, 8),
)
def test_views_are_all_combinations_and_the_random_ones(
    across: bool, down: bool, turns: bool, scales: int, training: int
) -> None:
    tta = TtaConfig(
        horizontal_flip=across,
        vertical_flip=down,
        quarter_turns=turns,
        scales=tuple(1.0 + 0.1 * number for number in range(scales)),
        training=training,
    )
    expected = (2 if across else 1) * (2 if down else 1) * (4 if turns else 1) * scales + training
    assert tta.views == expected


def test_there_is_at_least_one_view() -> None:
    with pytest.raises(ValidationError, match="scales must name at least one"):
        TtaConfig(scales=())


def test_defaults_do_nothing() -> None:
    assert TtaConfig().views == 1
    assert not AveragingConfig().averages
    assert AveragingConfig().snapshots == 1
    assert PreprocessConfig().resize == "squash"
