"""Composing the tree: values, a person's directory, and Hydra's errors in one line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from search_spaces.compose import TOP_KEYS, compose_tree, references, resolve
from search_spaces.errors import ConfigError


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def error_of(overrides: list[str], config_dir: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        compose_tree(overrides, config_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_tree_has_the_keys_of_the_types_and_plain_values() -> None:
    tree = compose_tree(["experiment=digits", "optimizer.lr=3e-3", "data.classes=[odd"])
    assert set(tree) == set(TOP_KEYS)
    assert tree["name"] == "digits"
    assert tree["optimizer"] == {"name": "adamw", "lr": 3e-3, "weight_decay": 0.05}
    assert tree["data"]["classes"] == "[odd"  # a known key that data/digits.yaml does not list
    assert "suggest" not in tree["backbone"]
    assert tree["train"]["image_size"] == 32


def test_what_a_backbone_suggests_reaches_the_other_groups() -> None:
    tree = compose_tree(["data=digits", "backbone=test_vit"])
    assert tree["optimizer"]["lr"] == "tag(log, interval(3e-4, 6e-3))"
    assert tree["train"]["image_size"] == 32
    assert compose_tree(["data=digits", "backbone=resnet18"])["train"]["image_size"] == 128


def test_without_a_name_a_run_is_called_as_its_experiment_or_its_data(tmp_path: Path) -> None:
    assert compose_tree(["data=digits"])["name"] == "digits"
    assert compose_tree(["data=folder"])["name"] == "folder"
    write(
        tmp_path / "experiment" / "team" / "mine.yaml",
        "# @package _global_\ndefaults:\n  - override /data: digits\nseed: 7\n",
    )
    tree = compose_tree(["experiment=team/mine"], tmp_path)
    assert (tree["name"], tree["seed"]) == ("team-mine", 7)


def test_a_directory_of_ones_own_gives_members_and_experiments(tmp_path: Path) -> None:
    folder = tmp_path / "my configs (1), it's odd"
    write(folder / "backbone" / "mine.yaml", "name: resnet34.a1_in1k\n")
    write(
        folder / "experiment" / "first.yaml",
        "# @package _global_\ndefaults:\n  - override /data: digits\n"
        "  - override /backbone: mine\nname: first\ntrain:\n  epochs: 2\n",
    )
    tree = compose_tree(["experiment=first"], folder)
    assert tree["backbone"]["name"] == "resnet34.a1_in1k"
    assert tree["train"] == {
        "epochs": 2, "batch_size": 32, "image_size": 224, "clip_grad": 1.0, "precision": "auto",
        "keep": "last", "micro_batch": None, "patience": 0,
    }  # fmt: skip
    assert tree["optimizer"]["lr"].startswith("tag(log")  # the default suggestion


def test_composing_again_and_in_threads_gives_the_same() -> None:
    calls = [["data=digits", f"seed={seed}"] for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        seeds = [tree["seed"] for tree in pool.map(compose_tree, calls)]
    assert seeds == list(range(6))
    assert not GlobalHydra.instance().is_initialized()


def test_another_hydra_in_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / "other.yaml", "answer: 42\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        compose_tree(["data=digits"])
        error_of(["data=digits", "optimizer.lr=${nowhere}"])
        assert compose("other").answer == 42
    GlobalHydra.instance().clear()


def test_the_data_must_be_chosen() -> None:
    assert error_of([]) == "data: choose one of csv, digits, folder, parquet"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=${backbone.sugest.lr}",
         "optimizer.lr: refers to backbone.sugest.lr, which does not exist;"
         " did you mean backbone.suggest.lr?"),
        ("optimizer.lr=???", "optimizer.lr: must be given, write optimizer.lr=value"),
        ("train.epochs=${train.epochs}", "train.epochs: Recursive interpolation detected"),
        ("name=${oc.env:FOLDBLEND_SURELY_NOT_SET}", "name: KeyError raised while resolving"),
        ("~train.clip_grad=5", "train.clip_grad: Could not delete from config"),
    ],
)  # fmt: skip
def test_a_mistake_that_hydra_finds_is_one_line(override: str, message: str) -> None:
    assert error_of(["data=digits", override]).startswith(message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("defaults:\n  - override /backbone: vit_smal\n",
         "backbone=vit_smal: there is no such backbone; did you mean vit_small?"),
        ("defaults:\n  - override /backbone: choice(a, b)\n",
         "backbone=choice(a, b): there is no such backbone; members are searched with"
         " `backbone: choice(a, b)` under sweep:"),
        ("defaults:\n  - digitz\n",
         "experiment=digitz: there is no such experiment (in experiment/bad.yaml); did you mean"
         " digits?"),
        ("backbone: choice(test_vit, test_resnet)\n",
         "backbone=choice(test_vit, test_resnet): must be a mapping;"),
        ("trian:\n  epochs: 3\n", "trian: unknown key; did you mean train?"),
        ("defaults:\n  - override /backbon: vit_small\n",
         "override /backbon: unknown group (in experiment/bad.yaml); did you mean backbone?"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_names_the_file_or_the_key(
    body: str, message: str, tmp_path: Path
) -> None:
    write(tmp_path / "experiment" / "bad.yaml", f"# @package _global_\n{body}")
    assert error_of(["experiment=bad", "data=digits"], tmp_path).startswith(message)


def test_a_yaml_mistake_names_file_and_line(tmp_path: Path) -> None:
    write(tmp_path / "loss" / "bad.yaml", "name: focal\nlabel_smoothing: [0.1\n")
    message = error_of(["data=digits", "loss=bad"], tmp_path)
    assert f"{tmp_path / 'loss' / 'bad.yaml'}, line 3: not YAML, " in message


def test_references_are_keys_that_are_nothing_but_another_key() -> None:
    empty = {group: {} for group in ("backbone", "augment", "schedule", "train")}
    tree = {
        **empty,
        "loss": {"label_smoothing": "${optimizer.weight_decay}", "focal_gamma": "${a}1"},
        "optimizer": {"weight_decay": 0.1, "name": "adamw"},
    }
    assert references(tree) == {"loss.label_smoothing": "optimizer.weight_decay"}


def test_resolving_leaves_the_unresolved_tree_alone() -> None:
    tree = {"backbone": {"suggest": {"lr": 1}}, "optimizer": {"lr": "${backbone.suggest.lr}"}}
    assert resolve(tree) == {"backbone": {}, "optimizer": {"lr": 1}}
    assert tree["backbone"] == {"suggest": {"lr": 1}}
