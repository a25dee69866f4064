"""pydantic's errors as one line, and the keys that the types know."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from search_spaces.config import Configuration, RunConfig, TrainConfig
from search_spaces.errors import ConfigError
from search_spaces.validation import check_key, known_keys, takes_text, validate

RUN: dict[str, Any] = {
    "name": "r",
    "data": {"source": "csv", "path": "a.csv"},
    "search": {"budget": {"configurations": 3}},
}


def with_value(key: str, value: object) -> dict[str, Any]:
    tree = copy.deepcopy(RUN)
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    return tree


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("folds.k", 1, "folds.k=1: must be at least 2"),
        ("folds.k", 101, "folds.k=101: must be at most 100"),
        ("folds.k", "five", "folds.k=five: must be a whole number"),
        ("folds.k", 4.5, "folds.k=4.5: must be a whole number"),
        ("folds.k", None, "folds.k=null: must be a whole number"),
        ("folds", 5, "folds=5: must be a mapping of keys to values"),
        ("folds.n", 5, "folds.n: unknown key; choose one of k, kind"),
        ("folds.kid", 5, "folds.kid: unknown key; did you mean kind? choose one of k, kind"),
        ("blend.metric", "acuracy",
         "blend.metric: acuracy must be one of log_loss, accuracy, macro_f1, balanced_accuracy,"
         " quadratic_kappa, auc, brier, ece, top_K_accuracy or sklearn:SCORER;"
         " did you mean accuracy?"),
        ("blend.groups", "cats",
         "blend.groups: cats must be auto or lists of class names, such as [[a, b]]"),
        ("blend.confidence", 1, "blend.confidence=1: must be less than 1"),
        ("blend.confidence", float("nan"), "blend.confidence=nan: must be a finite number"),
        ("blend.methods", "greedy", "blend.methods=greedy: must be a list, such as [a, b]"),
        ("blend.methods", [],
         "blend: methods must name at least one way to combine members, or auto"),
        ("blend.methods", ["equal", "gready"],
         "blend.methods.1=gready: must be one of auto, best_single, equal, log_mean, rank_mean,"
         " vote, convex, greedy, bagged, swap, class_mean, stacking; did you mean greedy?"),
        ("search.budget", {},
         "search.budget: one of configurations, fold_epochs or hours must be set"),
        ("search.budget.hours", 0, "search.budget.hours=0: must be more than 0"),
        ("search.resources.cpus", "all", "search.resources.cpus=all: must be a number"),
        ("search.pruning.enabled", "perhaps",
         "search.pruning.enabled=perhaps: must be true or false"),
        ("search.pruning.min_epoch", 1,
         "search.pruning.min_epoch: unknown key; did you mean min_epochs?"
         " choose one of enabled, min_epochs, reduction_factor, across_backbones_from"),
        ("data.path", None, "data.path is needed for data.source=csv"),
        ("data.classes", ["a"], "data.classes=['a']: must be a text"),
        ("replay", {"name": "mixed", "mixup": 0.25},
         "replay.mixup=0.25, replay.cutmix=0: must be 0, a validated image has one label;"
         " mix in training, by augment.mixup and augment.cutmix"),
        ("name", "../up",
         "name=../up: must be letters, digits, _, - and ., and not begin with - or ."),
    ],
)  # fmt: skip
def test_a_mistake_names_key_value_and_what_is_allowed(
    key: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(RunConfig, with_value(key, value))
    assert str(caught.value) == message


def test_of_several_mistakes_the_unknown_key_comes_first_with_a_count() -> None:
    tree = {"epoch": 3, "batch_size": 0, "image_size": 64}
    with pytest.raises(ConfigError) as caught:
        validate(TrainConfig, tree, "train")
    message = str(caught.value)
    assert message.startswith("train.epoch: unknown key; did you mean epochs?")
    assert message.endswith("(and 2 more)")


def test_a_missing_key_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^train\.epochs: must be given$"):
        validate(TrainConfig, {"batch_size": 8, "image_size": 64}, "train")


def test_what_is_right_comes_back_typed() -> None:
    assert validate(TrainConfig, {"epochs": "3", "batch_size": 8, "image_size": 64}).epochs == 3


def test_every_key_of_the_types_is_known() -> None:
    for key in {**known_keys(RunConfig), **known_keys(Configuration)}:
        check_key(key)
    assert "search.budget.hours" in known_keys(RunConfig)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("train.epoch", "train.epoch: unknown key; did you mean epochs?"),
        ("optimiser.lr", "optimiser: unknown key; did you mean optimizer?"),
        ("lr", "lr: unknown key; did you mean optimizer.lr?"),
        ("search.hours", "search.hours: unknown key; did you mean search.budget.hours?"),
        ("train.epochs.max", "train.epochs.max: train.epochs is a value"),
        ("zzz", "zzz: unknown key; choose one of name, storage"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(key: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_key(key)
    assert str(caught.value).startswith(message)


def test_paths_and_names_are_free_text_and_choices_are_not() -> None:
    assert takes_text("data.path")
    assert takes_text("name")
    assert takes_text("backbone.weights")
    assert not takes_text("data.source")
    assert not takes_text("folds.k")
