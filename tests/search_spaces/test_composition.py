"""One composed tree as fixed values, dimensions and ties."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from search_spaces.composition import read_composition
from search_spaces.errors import ConfigError
from search_spaces.grammar import Choice, FloatInterval, IntInterval

RAW: dict[str, Any] = {
    "name": "r",
    "storage": "runs",
    "backbone": {"name": "resnet18", "suggest": {"lr": "tag(log, interval(1e-3, 1e-2))"}},
    "augment": {"name": "none"},
    "loss": {"name": "cross_entropy"},
    "optimizer": {"name": "adamw", "lr": "${backbone.suggest.lr}"},
    "schedule": {"name": "cosine"},
    "train": {"epochs": 3, "batch_size": 32, "image_size": 64},
}


def raw(**changes: object) -> dict[str, Any]:
    tree = copy.deepcopy(RAW)
    for key, value in changes.items():
        group, _, name = key.partition("__")
        if name:
            tree[group][name] = value
        else:
            tree[group] = value
    return tree


def test_texts_in_the_sweep_grammar_become_dimensions() -> None:
    found, run = read_composition(raw())
    assert found.dimensions == {"optimizer.lr": FloatInterval(1e-3, 1e-2, log=True)}
    assert found.fixed["train.epochs"] == 3
    assert run == {"name": "r", "storage": "runs"}
    assert found.configuration({"optimizer.lr": 5e-3}).optimizer.lr == 5e-3
    assert found.lowest() == {"optimizer.lr": 1e-3}


def test_fixed_values_have_defaults_and_nothing_that_is_searched() -> None:
    values = read_composition(raw())[0].fixed_values()
    assert values["backbone.drop_rate"] == 0.0
    assert "optimizer.lr" not in values


def test_a_key_that_refers_to_a_searched_key_takes_its_value() -> None:
    tree = raw(
        loss__label_smoothing="${backbone.drop_rate}",
        backbone__drop_rate="interval(0, 0.5)",
        augment__erase="${loss.label_smoothing}",
    )
    found, _ = read_composition(tree)
    assert found.ties == {
        "augment.erase": "backbone.drop_rate",
        "loss.label_smoothing": "backbone.drop_rate",
    }
    assert set(found.dimensions) == {"backbone.drop_rate", "optimizer.lr"}
    one = found.configuration({"backbone.drop_rate": 0.25, "optimizer.lr": 1e-2})
    assert one.loss.label_smoothing == one.augment.erase == one.backbone.drop_rate == 0.25


@pytest.mark.parametrize("value", ["choice(a, b)", "interval(0, 1)"])
def test_a_run_key_in_the_sweep_grammar_is_an_error(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^storage cannot be searched, it is fixed for a run"):
        read_composition(raw(storage=value))


@pytest.mark.parametrize("value", ["a, b", "images (1)", "choice(a", "my(folder)"])
def test_a_run_key_that_only_looks_odd_is_a_value(value: str) -> None:
    assert read_composition(raw(storage=value))[1]["storage"] == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer__lr": "interval(-1, 1)"},
         "optimizer.lr=-1.0: must be more than 0 (in the sweep -1.0..1.0)"),
        ({"loss__label_smoothing": "interval(0, 1)"},
         "loss.label_smoothing=1.0: must be less than 1 (in the sweep 0.0..1.0)"),
        ({"train__epochs": "interval(2, 9)"},
         "train.epochs=2.0..9.0: must be whole numbers; write int(interval(2, 9))"),
        ({"loss__name": "choice(focal, focus)"},
         "loss.name=focus: must be one of cross_entropy, focal, cross_entropy_focal, bce, arcface, "
        "adaface; did you mean focal?"
         " (in the sweep focal | focus)"),
        ({"train__batch_size": 0}, "train.batch_size=0: must be at least 1"),
    ],
)  # fmt: skip
def test_every_end_of_a_dimension_is_checked(changes: dict[str, object], message: str) -> None:
    found, _ = read_composition(raw(**changes))
    with pytest.raises(ConfigError) as caught:
        found.check()
    assert str(caught.value) == message


def test_what_is_possible_passes_the_check() -> None:
    read_composition(raw(train__epochs="int(interval(2, 9))", train__clip_grad="choice(0, 1)"))[
        0
    ].check()
    read_composition(raw(optimizer__lr="interval(1, 1)"))[0].check()


def test_backbones_are_each_name_and_source_of_weights_once() -> None:
    found, _ = read_composition(
        raw(
            backbone__name="choice(resnet18, resnet34)",
            backbone__pretrained="choice(true, false)",
            backbone__drop_rate="choice(0.0, 0.1, 0.2)",
        )
    )
    backbones = [(b.name, b.pretrained, b.drop_rate) for b in found.backbones()]
    assert sorted(backbones) == [
        ("resnet18", False, 0.0), ("resnet18", True, 0.0),
        ("resnet34", False, 0.0), ("resnet34", True, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "sizes", "few"),
    [
        (64, (64,), True),
        ("choice(64, 96)", (64, 96), True),
        ("range(64, 129, 32)", (64, 96, 128), True),
        ("int(interval(32, 512))", (32, 512), False),
    ],
)
def test_image_sizes_are_listed_while_they_are_few(
    size: object, sizes: tuple[int, ...], few: bool
) -> None:
    found, _ = read_composition(raw(train__image_size=size))
    assert found.image_sizes() == sizes
    assert found.sizes_are_few() is few


def test_an_image_size_may_follow_another_key() -> None:
    tree = raw(train__image_size="${train.batch_size}", train__batch_size="choice(32, 64)")
    found, _ = read_composition(tree)
    assert found.image_sizes() == (32, 64)
    assert found.reachable("train.image_size") == (32, 64)


def test_reachable_values_are_all_choices_and_the_ends_of_a_range() -> None:
    found, _ = read_composition(
        raw(train__epochs="int(interval(2, 9))", optimizer__name="choice(adamw, sgd)")
    )
    assert found.reachable("train.epochs") == (2, 9)
    assert found.reachable("optimizer.name") == ("adamw", "sgd")
    assert found.reachable("train.batch_size") == (32,)
    assert isinstance(found.dimensions["train.epochs"], IntInterval)
    assert isinstance(found.dimensions["optimizer.name"], Choice)
