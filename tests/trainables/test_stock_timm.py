"""Exported weights outside of foldblend: stock timm gives the stored probabilities, and for models
that are not timm's the formula of docs/recipe.md does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from search_spaces.config import Configuration
from tests.trainables.tiny_run import TinyRun, changed
from trainables.recipe import Normalisation
from trainables.weights import read_recipe

RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "averaged": {"averaging": {"name": "ema", "decay": 0.9}, "train": {"precision": "bf16"}},
    "averaged at the end": {"averaging": {"name": "swa", "swa_from": 0.0}},
    "mixed, focal, unfrozen step by step": {
        "augment": {"mixup": 0.5, "cutmix": 0.5, "policy": "randaugment"},
        "loss": {"name": "focal"},
        "backbone": {"freeze_epochs": 1, "unfreeze": "gradual"},
    },
    "own mean and deviation, BCE, lion": {
        "preprocess": {"normalize": "dataset"},
        "loss": {"name": "bce", "class_balance": 0.9},
        "optimizer": {"name": "lion", "lr": 1e-3},
    },
    "a transformer with layer-wise rates": {
        "backbone": {"name": "test_vit", "layer_decay": 0.8, "grad_checkpointing": True}
    },
}


def trained(run: TinyRun, groups: dict[str, dict[str, Any]]) -> Configuration:
    one = changed(run.configuration, **groups)
    run.finish(run.task(configuration=one))
    return one


def inputs(run: TinyRun, normalisation: Normalisation) -> Tensor:
    pixels = torch.from_numpy(run.data.cache[run.data.folds.validation_rows(0)])
    scaled = pixels.permute(0, 3, 1, 2).float() / 255.0
    mean = torch.tensor(normalisation.mean).view(1, 3, 1, 1)
    return (scaled - mean) / torch.tensor(normalisation.std).view(1, 3, 1, 1)


def assert_are_the_stored_ones(run: TinyRun, one: Configuration, logits: Tensor) -> None:
    stored = run.oof(run.task(configuration=one)).proba
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), stored, atol=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_stock_timm_gives_the_same_logits(tiny_run: TinyRun, name: str) -> None:
    one = trained(tiny_run, RECIPES[name])
    location = tiny_run.paths.weights(one.config_id, 0)
    recipe = read_recipe(location)
    model = timm.create_model(
        recipe.architecture,
        num_classes=3,
        checkpoint_path=str(location.local_path),
        **recipe.arguments,
    ).eval()
    with torch.no_grad():
        logits = model(inputs(tiny_run, recipe.normalisation))
    assert_are_the_stored_ones(tiny_run, one, logits)


@pytest.mark.parametrize(
    ("loss", "second"),
    [
        *(("arcface", None), ("adaface", None)),
        *((loss, "test_byobnet") for loss in ("cross_entropy", "arcface", "adaface")),
    ],
)
def test_other_models_are_what_their_documentation_says(
    tiny_run: TinyRun, loss: str, second: str | None
) -> None:
    chosen = {"loss": {"name": loss, "label_smoothing": 0.0}, "backbone": {"second": second}}
    one = trained(tiny_run, chosen)
    location = tiny_run.paths.weights(one.config_id, 0)
    recipe, state = read_recipe(location), load_file(str(location.local_path))
    images, features = inputs(tiny_run, recipe.normalisation), []
    for number, part in enumerate(recipe.parts):
        prefix = f"backbones.{number}."
        model = timm.create_model(part.architecture, num_classes=0, **part.arguments).eval()
        own = {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
        model.load_state_dict(own)
        seen = images * state["scales"][number] + state["shifts"][number]
        with torch.no_grad():
            features.append(model(seen))
    joined = torch.cat(features, dim=1)
    if loss == "cross_entropy":
        logits = F.linear(joined, state["head.weight"], state["head.bias"])
    else:
        logits = recipe.scale * F.normalize(joined) @ F.normalize(state["head.weight"]).T
    assert_are_the_stored_ones(tiny_run, one, logits)
