"""The experiments and members that come with the package: all load, and timm knows their names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces.compose import compose_tree
from search_spaces.config import Configuration, RunConfig
from search_spaces.space import Study, load_study
from search_spaces.tree import CONFIGURATION_GROUPS, RUN_GROUPS, members

DATA = {
    "digits": [],
    "csv": ["data.path=train.csv", "data.images=train"],
    "folder": ["data=folder", "data.path=images"],
    "pretrained": ["data=parquet", "data.path=train.parquet", "data.images=train"],
    "scratch": ["data=csv", "data.path=train.csv", "data.images=train"],
    "document": ["data.path=train.csv", "data.images=train"],
    "sketch": ["data.path=train.csv", "data.images=train"],
    "cars": ["data.path=train"],
}


def test_every_experiment_is_tested() -> None:
    assert set(members("experiment")) == set(DATA)


@pytest.mark.parametrize("experiment", DATA)
def test_an_experiment_loads_and_is_named_after_itself(experiment: str) -> None:
    study = load_study([f"experiment={experiment}", *DATA[experiment]])
    assert study.run.name == experiment
    assert study.run.storage == "runs"
    assert len(study.space.groups["backbone"]) >= 3
    assert any(row.key == "optimizer.lr" for row in study.space.rows())


def test_the_demo_is_as_large_as_it_was_measured(digits: Study) -> None:
    run, space = digits.run, digits.space
    assert (run.data.source, run.folds.k, run.search.metric) == ("digits", 5, "log_loss")
    assert run.search.budget.configurations == 12
    assert run.search.promotion.members == 6
    assert space.image_sizes() == (32,)
    assert not any(backbone.pretrained for backbone in space.backbones())
    fixed = {row.key: row.description for row in space.fixed_rows()}
    wanted = {
        "train.epochs": "4", "train.batch_size": "64", "optimizer.weight_decay": "0.05",
        "schedule.warmup_fraction": "0.25", "augment.horizontal_flip": "0.0",
    }  # fmt: skip
    assert wanted.items() <= fixed.items()


def test_from_scratch_nothing_is_downloaded_and_images_are_small() -> None:
    space = load_study(["experiment=scratch", *DATA["scratch"]]).space
    assert space.image_sizes() == (64,)
    assert not any(backbone.pretrained for backbone in space.backbones())


def test_the_recipes_of_contests_are_those_of_their_teams() -> None:
    document, sketch, cars = (
        load_study([f"experiment={name}", *DATA[name]]) for name in ("document", "sketch", "cars")
    )
    names = {one.name.partition(".")[0] for one in document.space.backbones()}
    assert names == {
        *("convnextv2_large", "efficientnetv2_rw_m", "deit3_large_patch16_384"),
        *("swinv2_base_window12to24_192to384", "regnety_320"),
    }
    assert document.run.search.metric == document.run.blend.metric == "macro_f1"
    assert document.run.replay.policy == "document"
    assert not document.run.replay.mixes
    assert sketch.run.search.metric == sketch.run.blend.metric == "accuracy"
    assert sketch.space.reachable("augment.mixup") == sketch.space.reachable("augment.cutmix")
    assert {"cross_entropy", "focal", "cross_entropy_focal"} == set(
        sketch.space.reachable("loss.name")
    )
    assert cars.run.search.metric == cars.run.blend.metric == "log_loss"
    assert set(cars.space.reachable("loss.name")) >= {"adaface", "cross_entropy_focal"}
    assert "swa" in cars.space.reachable("averaging.name")
    assert cars.space.reachable("tta.training") == (4,)


@pytest.mark.parametrize("group", [*CONFIGURATION_GROUPS, *RUN_GROUPS])
def test_every_member_of_a_group_is_valid_and_says_what_it_chooses(group: str) -> None:
    for member in members(group):
        tree = compose_tree(["data=digits", f"{group}={member}", "data.path=a"])
        RunConfig.model_validate({key: tree[key] for key in RunConfig.model_fields})
        fields = {**RunConfig.model_fields, **Configuration.model_fields}[group]
        model = fields.annotation
        assert model is not None
        listed, known = set(tree[group]), set(model.model_fields)
        assert listed <= known, member
        assert "name" in listed or "name" not in known, member


def test_timm_knows_every_backbone_and_the_weights_it_claims() -> None:
    timm = pytest.importorskip("timm")
    with_weights = set(timm.list_pretrained())
    study = load_study(["data=digits", "backbone=glob(*)", "optimizer.lr=1e-3"])
    for backbone in study.space.backbones():
        architecture, _, tag = backbone.name.partition(".")
        assert timm.is_model(architecture), backbone.name
        assert not (backbone.pretrained or tag) or backbone.name in with_weights, backbone.name


def test_timm_knows_every_optimizer() -> None:
    optim = pytest.importorskip("timm.optim")
    for member in members("optimizer"):
        name = compose_tree(["data=digits", f"optimizer={member}"])["optimizer"]["name"]
        assert name in optim.list_optimizers()


def test_a_study_is_loaded_without_torch_ray_or_optuna() -> None:
    code = (
        "import sys; from search_spaces.space import load_study;"
        "load_study(['experiment=digits']);"
        "print(sorted({'torch', 'ray', 'optuna'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_study_says_which_overrides_made_it() -> None:
    study: Study = load_study(["data=digits", "seed=3"])
    assert study.overrides == ("data=digits", "seed=3")
