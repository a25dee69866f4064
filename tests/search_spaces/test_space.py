"""The search space: where sweeps come from, which wins, and how it is sampled and rebuilt."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.conditions import SpaceRow
from search_spaces.config import Configuration
from search_spaces.errors import ConfigError
from search_spaces.grammar import Choice, FloatInterval, IntInterval
from search_spaces.space import Space, Study, load_study, parameter_name

TEST_RESNET = {"backbone": "test_resnet"}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def space_of(*overrides: str, config_dir: Path | None = None) -> Space:
    return load_study(["data=digits", *overrides], config_dir).space


def samples(
    space: Space, number: int, seed: int = 0
) -> list[tuple[Mapping[str, object], Configuration]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    trials = [study.ask() for _ in range(number)]
    configurations = [space.sample(trial) for trial in trials]
    return [(trial.params, one) for trial, one in zip(trials, configurations, strict=True)]


# --- where sweeps come from, and which wins ------------------------------------------------------


def test_sweeps_come_from_member_experiment_and_command_line(digits: Study) -> None:
    found = digits.space.dimensions(TEST_RESNET)
    assert found["optimizer.lr"] == FloatInterval(8e-4, 2e-2, log=True)  # the backbone's own
    assert found["loss.label_smoothing"] == FloatInterval(0.0, 0.1)  # the experiment's
    study = load_study(["experiment=digits", "train.batch_size=32,64", "loss=glob(*)"])
    assert study.space.groups.keys() == {"backbone", "loss"}
    found = study.space.dimensions({**TEST_RESNET, "loss": "focal"})
    assert found["train.batch_size"] == Choice((32, 64))
    assert found["loss.focal_gamma"] == FloatInterval(0.5, 3.0)
    assert "loss.focal_gamma" not in study.space.dimensions(
        {**TEST_RESNET, "loss": "cross_entropy"}
    )


def test_a_plain_override_ends_a_search_and_a_sweep_replaces_it() -> None:
    study = load_study(
        [
            "experiment=digits",
            "backbone=test_vit",
            "optimizer.lr=1e-3",
            "loss.label_smoothing=0.1",
            "backbone.drop_rate=choice(0.0, 0.3)",
        ]
    )
    assert study.space.groups == {}
    assert study.space.dimensions({}) == {"backbone.drop_rate": Choice((0.0, 0.3))}
    assert study.overrides[1] == "backbone=test_vit"
    replaced = load_study(["experiment=digits", "backbone=test_vit,test_convnext"])
    assert replaced.space.groups == {"backbone": ("test_vit", "test_convnext")}


def test_a_value_override_beats_the_sweep_that_a_member_brings() -> None:
    space = space_of("backbone=test_vit,test_resnet", "optimizer.lr=0.01")
    assert space.dimensions({"backbone": "test_vit"}) == {}
    assert space.rows() == (SpaceRow("backbone", "test_vit | test_resnet"),)


def test_a_persons_directory_takes_part_in_everything(tmp_path: Path) -> None:
    write(tmp_path / "backbone" / "mine.yaml", "name: resnet34\nsuggest:\n  lr: 0.002\n")
    write(
        tmp_path / "experiment" / "own.yaml",
        "# @package _global_\ndefaults:\n  - override /data: digits\n"
        "sweep:\n  backbone: choice(mine, test_vit)\n  train.epochs: range(2, 5)\n",
    )
    study = load_study(["experiment=own"], tmp_path)
    assert study.run.name == "own"
    assert study.space.groups == {"backbone": ("mine", "test_vit")}
    assert study.space.dimensions({"backbone": "mine"}) == {"train.epochs": IntInterval(2, 4)}
    assert "optimizer.lr" in study.space.dimensions({"backbone": "test_vit"})


# --- sampling -----------------------------------------------------------------------------------


def test_only_what_the_chosen_member_brings_is_sampled(digits: Study) -> None:
    rates = {
        "test_resnet": "optimizer.lr [log 0.0008..0.02]",
        "test_efficientnet": "optimizer.lr [log 0.0016..0.04]",
        "test_byobnet": "optimizer.lr [log 0.001..0.025]",
    }
    seen = set()
    for params, configuration in samples(digits.space, 20):
        member = str(params["backbone"])
        assert {name for name in params if name.startswith("optimizer.lr")} == {rates[member]}
        assert configuration.optimizer.lr == params[rates[member]]
        assert configuration.backbone.name.startswith(member)
        seen.add(member)
    assert seen == set(rates)


def test_tpe_samples_the_conditional_space_and_learns(digits: Study) -> None:
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=10)
    study = optuna.create_study(sampler=sampler)
    for _ in range(40):
        trial = study.ask()
        configuration = digits.space.sample(trial)
        good = configuration.backbone.name.startswith("test_byobnet")
        study.tell(trial, configuration.loss.label_smoothing + (0.0 if good else 1.0))
    chosen = [trial.params["backbone"] for trial in study.trials]
    assert chosen[20:].count("test_byobnet") > chosen[:10].count("test_byobnet") * 2


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_a_configuration_is_rebuilt_from_what_optuna_recorded(digits: Study, seed: int) -> None:
    for params, configuration in samples(digits.space, 2, seed):
        assert digits.space.configuration(params) == configuration
        assert digits.space.sample(optuna.trial.FixedTrial(dict(params))) == configuration
        assert digits.space.configuration(params).config_id == configuration.config_id


def test_a_space_survives_pickling_and_edited_files(tmp_path: Path) -> None:
    write(tmp_path / "backbone" / "mine.yaml", "name: resnet34\n")
    space = space_of("backbone=test_vit,mine", "loss=glob(*)", config_dir=tmp_path)
    (tmp_path / "backbone" / "mine.yaml").unlink()
    again = pickle.loads(pickle.dumps(space))
    assert again.fingerprint() == space.fingerprint()
    assert [c for _, c in samples(again, 8)] == [c for _, c in samples(space, 8)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": None}, "the recorded parameters have no backbone, which is searched now"),
        ({"backbone": "test_vit"}, "recorded backbone=test_vit: now searched are test_resnet"),
        ({"backbone.drop_rate [0.0..0.2]": 0.3}, "recorded backbone.drop_rate [0.0..0.2]=0.3: out"),
        ({"backbone.drop_rate [0.0..0.2]": None}, "the recorded parameters have no backbone.drop"),
        ({"train.epochs [int 1..2]": 1}, "recorded train.epochs [int 1..2]=1: not searched now"),
    ],
)
def test_parameters_of_another_space_are_refused(
    digits: Study, change: Mapping[str, object], message: str
) -> None:
    params = {**samples(digits.space, 1)[0][0], **change}
    with pytest.raises(ConfigError) as caught:
        digits.space.configuration({k: v for k, v in params.items() if v is not None})
    assert str(caught.value).startswith(message)


def test_the_same_key_with_another_range_is_another_parameter() -> None:
    assert parameter_name("a.b", FloatInterval(1, 2)) != parameter_name("a.b", FloatInterval(1, 3))
    assert parameter_name("a.b", Choice((1,))) != parameter_name("a.b", Choice(("1",)))


# --- what can be reached ------------------------------------------------------------------------


def test_rows_say_what_is_searched_and_when(digits: Study) -> None:
    assert digits.space.rows() == (
        SpaceRow("backbone", "test_resnet | test_efficientnet | test_byobnet"),
        SpaceRow("backbone.drop_rate", "0.0..0.2"),
        SpaceRow("loss.label_smoothing", "0.0..0.1"),
        SpaceRow("optimizer.lr", "log 0.0008..0.02", "backbone=test_resnet"),
        SpaceRow("optimizer.lr", "log 0.0016..0.04", "backbone=test_efficientnet"),
        SpaceRow("optimizer.lr", "log 0.001..0.025", "backbone=test_byobnet"),
    )
    fixed = {row.key: row for row in digits.space.fixed_rows() if not row.condition}
    assert fixed["train.epochs"].description == "4"
    assert "optimizer.lr" not in fixed


def test_backbones_and_sizes_of_every_combination_are_reached(tmp_path: Path) -> None:
    write(
        tmp_path / "train" / "small.yaml",
        "epochs: 1\nbatch_size: 8\nimage_size: choice(40, 48)\n",
    )
    space = space_of(
        "backbone=test_vit,resnet18,convnext_tiny", "train=small,default", config_dir=tmp_path
    )
    # The sizes that backbones suggest only show under the second member of `train`.
    assert space.image_sizes() == (32, 40, 48, 128, 224)
    assert space.size_is_finite
    assert [b.name.split(".")[0] for b in space.backbones()] == [
        "test_vit", "resnet18", "convnext_tiny",
    ]  # fmt: skip
    assert space.reachable("train.epochs") == (1, 10)
    assert len(space.combinations()) == 6


def test_a_long_range_of_sizes_stands_at_its_ends() -> None:
    space = space_of("backbone=test_vit", "train.image_size=int(interval(32, 512))")
    assert space.image_sizes() == (32, 512)
    assert not space.size_is_finite


def test_dimensions_ask_for_a_member_of_every_searched_group(digits: Study) -> None:
    with pytest.raises(ConfigError, match=r"^backbone=None: choose one of test_resnet"):
        digits.space.dimensions({})


def test_the_fingerprint_follows_everything_a_sample_can_be(digits: Study) -> None:
    def fingerprint(*overrides: str) -> str:
        return load_study(["experiment=digits", *overrides]).space.fingerprint()

    assert fingerprint() == digits.space.fingerprint()
    assert fingerprint("search.budget.configurations=3") == digits.space.fingerprint()
    assert fingerprint("train.epochs=7") != digits.space.fingerprint()
    assert fingerprint("backbone.drop_rate=interval(0, 0.21)") != digits.space.fingerprint()


def test_the_fingerprint_is_the_same_in_another_process(digits: Study) -> None:
    code = (
        "from search_spaces.space import load_study;"
        "print(load_study(['experiment=digits']).space.fingerprint())"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digits.space.fingerprint()


# --- members that change more than their own group ----------------------------------------------


def test_a_member_that_changes_another_group_is_composed_whole(tmp_path: Path) -> None:
    write(
        tmp_path / "augment" / "heavy.yaml",
        "# @package _global_\naugment:\n  name: heavy\nbackbone:\n  drop_rate: 0.25\n",
    )
    space = space_of(
        "backbone=test_vit,test_resnet", "augment=light,heavy", "train.image_size=48",
        config_dir=tmp_path,
    )  # fmt: skip
    assert space.whole
    found = {c.augment.name: c.backbone.drop_rate for _, c in samples(space, 12)}
    assert found == {"light": 0.0, "heavy": 0.25}


def test_a_member_that_changes_the_run_cannot_be_searched(tmp_path: Path) -> None:
    write(
        tmp_path / "augment" / "odd.yaml",
        "# @package _global_\naugment:\n  name: odd\nseed: 3\n",
    )
    with pytest.raises(ConfigError, match=r"^augment=odd changes what is fixed for a run"):
        space_of("augment=light,odd", config_dir=tmp_path)


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=interval(-1, 1)", "optimizer.lr=-1.0: must be more than 0 (in the sweep"),
        ("train.batch_size=0", "train.batch_size=0: must be at least 1"),
        ("train.epochs=interval(5, 10)", "train.epochs=5.0..10.0: must be whole numbers"),
        ("folds.k=1", "folds.k=1: must be at least 2"),
        ("data.path=choice(a, b)", "data.path cannot be searched"),
        ("storage=${optimizer.lr}", "storage cannot be searched"),
        ("search.sampler.name=tep", "search.sampler.name=tep: must be one of tpe, random"),
    ],
)
def test_what_cannot_be_is_found_when_the_study_is_loaded(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(["experiment=digits", override])
    assert str(caught.value).startswith(message)
    assert "(backbone=" not in str(caught.value)  # it holds for every backbone


def test_a_mistake_of_one_member_names_the_member(tmp_path: Path) -> None:
    write(tmp_path / "backbone" / "bad.yaml", "name: resnet34\nsuggest:\n  batch_size: 0\n")
    with pytest.raises(ConfigError, match=r"^train\.batch_size=0: .* \(backbone=bad\)$"):
        space_of("backbone=test_vit,bad", config_dir=tmp_path)
