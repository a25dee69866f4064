"""The command line and `sweep:`, sorted into what Hydra composes and what is searched."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.errors import ConfigError
from search_spaces.overrides import parse_request, quoted, with_sweep


def test_members_values_and_sweeps_are_told_apart() -> None:
    request = parse_request(
        ["experiment=digits", "loss=choice(focal, cross_entropy)", "train.epochs=3"]
    )
    assert request.members == {"experiment": "digits"}
    assert request.swept == {"loss": ("focal", "cross_entropy")}
    assert request.values == ("++train.epochs=3",)
    assert request.overrides() == ("experiment='digits'", "loss='focal'", "++train.epochs=3")
    assert "loss='cross_entropy'" in request.overrides({"loss": "cross_entropy"})


@pytest.mark.parametrize(
    "text",
    ["backbone=test_vit,test_resnet", "backbone=choice(test_vit,test_resnet)",
     "backbone='choice(test_vit, test_resnet)'", "+backbone=test_vit,test_resnet"],
)  # fmt: skip
def test_a_group_is_searched_in_every_way_hydra_writes_a_choice(text: str) -> None:
    assert parse_request([text]).swept == {"backbone": ("test_vit", "test_resnet")}


def test_a_glob_takes_the_members_that_match() -> None:
    assert parse_request(["loss=glob(*focal)"]).swept == {"loss": ("cross_entropy_focal", "focal")}
    with pytest.raises(ConfigError, match="no loss has such a name"):
        parse_request(["loss=glob(zzz*)"])


@pytest.mark.parametrize("text", ["optimizer.lr=1e-4,1e-3", "optimizer.lr=choice(1e-4,1e-3)"])
def test_a_sweep_over_a_value_travels_as_a_text(text: str) -> None:
    value = text.partition("=")[2]
    assert parse_request([text]).values == (f"++optimizer.lr='{value}'",)


def test_the_last_word_on_a_group_counts() -> None:
    assert parse_request(["loss=glob(*)", "loss=focal"]).members == {"loss": "focal"}
    assert parse_request(["loss=glob(*)", "loss=focal"]).swept == {}
    assert parse_request(["loss=focal", "loss=glob(*)"]).members == {}


def test_a_known_key_is_set_with_and_without_a_plus() -> None:
    for text in ("optimizer.lr=1", "+optimizer.lr=1", "++optimizer.lr=1"):
        assert parse_request([text]).values == ("++optimizer.lr=1",)
    assert parse_request(["optimizer={lr: 1}"]).values == ("++optimizer={lr: 1}",)
    assert parse_request(["~optimizer.weight_decay"]).values == ("~optimizer.weight_decay",)
    assert parse_request(["experiment=null"]) == parse_request([])


@pytest.mark.parametrize(
    "path",
    ["/data/my images (1)/train.csv", "~/images", "runs/config_id=c12/a.csv", "C:\\images",
     "it's.csv", "[odd", "50%.csv"],
)  # fmt: skip
def test_a_path_may_hold_any_character(path: str) -> None:
    request = parse_request([f"data.path={path}"])
    assert request.values in ((f"++data.path={quoted(path)}",), (f"++data.path={path}",))


def test_a_number_for_a_text_stays_as_it_was_written() -> None:
    assert parse_request(["name=1_000"]).values == ("++name='1_000'",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "lr: not an override; write key=value or group=member"),
        ("train.epoch=3", "train.epoch=3: unknown key; did you mean epochs?"),
        ("+foo.bar=1", "foo: unknown key"),
        ("backbone.suggest.lr=1", "backbone.suggest: unknown key"),
        ("loss=focl", "loss=focl: there is no such loss; did you mean focal?"),
        ("loss=choice(focal, zz)", "loss=zz: there is no such loss; choose one of"),
        ("loss=interval(0, 1)", "loss=interval(0, 1): members of a group are searched by choice"),
        ("loss=[focal]", "loss=['focal']: choose one member, or search with choice(a, b)"),
        ("loss=null", "loss=null: choose one member"),
        ("loss@other=focal", "loss@other=focal: packages are not supported"),
        ("~loss", "~loss: the group loss cannot be removed"),
        ("data.path=choice(a, b)", "data.path cannot be searched, it is fixed for a run"),
        ("data.path=a,b", "data.path cannot be searched"),
        ("data=choice(csv, folder)", "data cannot be searched"),
        ("seed=range(3)", "seed cannot be searched"),
        ("experiment=csv,folder", "experiment cannot be searched"),
        ("blend.methods=equal,greedy", "blend.methods cannot be searched"),
        ("sweep.loss=choice(a, b)", "sweep.loss=choice(a, b): sweep: is for experiment files"),
        ("optimizer.lr=interval(2, 1)", "optimizer.lr=interval(2, 1): upside down"),
        ("optimizer.lr=interval(1, 2", "optimizer.lr=interval(1, 2: syntax error"),
        ("train.epochs=3)", "train.epochs=3): Hydra cannot read the value; quote it"),
    ],
)
def test_a_mistake_is_one_line_that_names_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_request([text])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_sweep_of_an_experiment_lies_beneath_the_command_line() -> None:
    request = parse_request(["backbone=test_vit", "optimizer.lr=0.1"])
    sweep = {
        "backbone": "choice(test_resnet, test_byobnet)",
        "loss": "focal, cross_entropy",
        "optimizer.lr": "interval(0.1, 0.2)",
        "train": {"epochs": "range(1, 4)"},
    }
    found = with_sweep(request, sweep)
    assert found.members == {"backbone": "test_vit"}
    assert found.swept == {"loss": ("focal", "cross_entropy")}
    assert found.values == (
        "++optimizer.lr='interval(0.1, 0.2)'",
        "++train.epochs='range(1, 4)'",
        "++optimizer.lr=0.1",  # after the sweep, so it wins
    )


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("choice(a, b)", "sweep=choice(a, b): must be a mapping"),
        ({"backbon": "choice(a, b)"}, "backbon=choice(a, b): unknown group; did you mean backbone"),
        ({"backbone": "test_vit"}, "backbone=test_vit: members of a group are searched by choice"),
        ({"backbone": ["test_vit"]}, "backbone=['test_vit']: members of a group"),
        ({"optimizer.lrr": "range(3)"}, "optimizer.lrr: unknown key; did you mean lr?"),
        ({"optimizer.lr": 0.1}, "sweep.optimizer.lr=0.1: not a sweep"),
        ({"data.path": "choice(a, b)"}, "data.path cannot be searched"),
    ],
)
def test_a_mistake_in_sweep_is_named(sweep: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_sweep(parse_request([]), sweep)
    assert str(caught.value).startswith(message)


def test_members_come_from_a_persons_directory_too(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("name: focal\n", encoding="utf-8")
    assert parse_request(["loss=mine"], tmp_path).members == {"loss": "mine"}
    with pytest.raises(ConfigError, match="loss=mine: there is no such loss"):
        parse_request(["loss=mine"])
