"""The typed configuration: identity and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from search_spaces.config import Configuration, RunConfig

TREE: dict[str, Any] = {
    "backbone": {"name": "resnet18.a1_in1k", "pretrained": True},
    "augment": {"name": "none"},
    "loss": {"name": "cross_entropy"},
    "optimizer": {"name": "adamw", "lr": 1e-3},
    "schedule": {"name": "cosine"},
    "train": {"epochs": 3, "batch_size": 32, "image_size": 64},
}


def changed(key: str, value: object) -> Configuration:
    tree = copy.deepcopy(TREE)
    group, _, name = key.partition(".")
    tree[group][name] = value
    return Configuration.model_validate(tree)


def test_the_config_id_never_changes_between_versions() -> None:
    # Run directories on disk are named by it: a new literal here orphans them.
    assert Configuration.model_validate(TREE).config_id == "c277bf8524"


def test_a_default_and_the_same_value_written_out_have_one_config_id() -> None:
    assert changed("backbone.drop_rate", 0.0) == changed("loss.label_smoothing", 0)
    assert changed("optimizer.lr", "0.001").config_id == changed("optimizer.lr", 1e-3).config_id


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backbone.name", "resnet34.a1_in1k"),
        ("backbone.weights", "a.safetensors"),
        ("optimizer.lr", 1.0000000001e-3),
        ("train.keep", "best"),
    ],
)
def test_any_other_value_has_another_config_id(key: str, value: object) -> None:
    assert changed(key, value).config_id != Configuration.model_validate(TREE).config_id


def test_a_configuration_is_frozen() -> None:
    configuration = Configuration.model_validate(TREE)
    with pytest.raises(ValidationError):
        configuration.train = configuration.train


def test_a_run_is_named_like_a_folder() -> None:
    fixed = {"data": {"source": "digits"}, "search": {"budget": {"configurations": 1}}}
    assert RunConfig.model_validate({"name": 2024, **fixed}).name == "2024"
    for name in ("", "..", "../up", "a/b", ".hidden", "two words"):
        with pytest.raises(ValidationError):
            RunConfig.model_validate({"name": name, **fixed})
