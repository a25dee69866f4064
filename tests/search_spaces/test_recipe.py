"""One point of the search space: what contradicts itself, and which keys make its identity."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from search_spaces.recipe import BackboneConfig, Configuration, LossConfig, TrainConfig

TREE: dict[str, Any] = {
    "backbone": {"name": "resnet18.a1_in1k"},
    "augment": {"name": "none"},
    "loss": {"name": "cross_entropy"},
    "optimizer": {"name": "adamw", "lr": 1e-3},
    "schedule": {"name": "cosine"},
    "train": {"epochs": 3, "batch_size": 32, "image_size": 64},
}


def configuration(**groups: dict[str, object]) -> Configuration:
    tree = copy.deepcopy(TREE)
    for group, values in groups.items():
        tree[group] = {**tree.get(group, {}), **values}
    return Configuration.model_validate(tree)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"loss": {"name": "arcface"}, "augment": {"mixup": 0.2}}, "a margin needs one label"),
        ({"averaging": {"snapshots": 4}}, "must be at most train.epochs=3"),
        ({"averaging": {"snapshots": 2}, "train": {"keep": "best"}}, "needs train.keep=last"),
        ({"averaging": {"name": "swa"}, "train": {"patience": 2}}, "needs train.keep=last"),
        ({"backbone": {"second_weights": "a"}}, "second must name a timm model"),
        ({"backbone": {"weights": "a", "from_run": "b"}}, "exclude each other"),
    ],
)
def test_what_contradicts_itself_is_refused(
    groups: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        configuration(**groups)


@pytest.mark.parametrize(
    "groups",
    [
        {"train": {"patience": 2}},
        {"augment": {"mixup": 0.2}},
        {"preprocess": {"grey": True}},
        {"tta": {"horizontal_flip": True}},
        {"averaging": {"name": "ema"}},
        {"loss": {"class_balance": 0.9}},
        {"backbone": {"second": "resnet34"}},
    ],
)
def test_a_key_of_a_later_version_counts_only_where_it_is_not_the_default(
    groups: dict[str, dict[str, object]],
) -> None:
    plain = configuration()
    assert configuration(**groups).config_id != plain.config_id
    back = {
        group: {key: getattr(getattr(plain, group), key) for key in values}
        for group, values in groups.items()
    }
    assert configuration(**back).config_id == plain.config_id


def test_points_of_a_run_have_identities_of_their_own() -> None:
    one = configuration(averaging={"snapshots": 3})
    assert one.at_snapshot(0) == one
    assert len({one.at_snapshot(number).config_id for number in range(3)}) == 3


def test_an_epoch_chosen_on_the_validation_fold_is_optimistic() -> None:
    sizes = {"epochs": 1, "batch_size": 2, "image_size": 8}
    assert not TrainConfig(**sizes).is_optimistic
    assert TrainConfig(**sizes, keep="best").is_optimistic
    assert TrainConfig(**sizes, patience=3).is_optimistic


def test_only_margin_losses_have_a_margin() -> None:
    assert [LossConfig(name=name).has_margin for name in ("arcface", "adaface", "focal")] == [  # type: ignore[arg-type]
        True, True, False,
    ]  # fmt: skip
    assert BackboneConfig(name="a").second is None
