"""What may be said of augmentation, averaging and views, and what contradicts itself."""

from __future__ import annotations

from typing import Any

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


CHANGES: tuple[dict[str, Any], ...] = (
    {"horizontal_flip": 0.5},
    {"vertical_flip": 0.5},
    {"quarter_turns": 1.0},
    {"rotate_degrees": 5.0},
    {"shear_degrees": 5.0},
    {"shift": 0.1},
    {"zoom": 0.1},
    {"crop_min": 0.9},
    {"policy": "document"},
    {"brightness": 0.1},
    {"contrast": 0.1},
    {"saturation": 0.1},
    {"erase": 0.1},
    {"mixup": 0.1},
    {"cutmix": 0.1},
)


@pytest.mark.parametrize("values", CHANGES, ids=lambda values: next(iter(values)))
def test_any_key_changes_images_whatever_the_member_is_called(values: dict[str, Any]) -> None:
    assert not AugmentConfig(name="none", **values).changes_nothing


def test_every_key_that_changes_images_is_among_those() -> None:
    """A key that is added must be thought of in `changes_nothing`."""
    only_with_others = {
        *("name", "affine", "crop_ratio", "policy_p", "strength", "operations"),
        *("erase_min", "erase_max", "mixup_alpha", "cutmix_alpha"),
    }
    known = {key for values in CHANGES for key in values}
    assert known | only_with_others == set(AugmentConfig.model_fields)


def test_what_can_never_happen_changes_nothing() -> None:
    assert AugmentConfig(name="light").changes_nothing
    assert AugmentConfig(name="a", affine=0.0, rotate_degrees=30.0, zoom=0.5).changes_nothing
    assert AugmentConfig(name="a", policy="document", policy_p=0.0).changes_nothing
    assert AugmentConfig(name="a", crop_ratio=2.0, mixup_alpha=5.0).changes_nothing


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
