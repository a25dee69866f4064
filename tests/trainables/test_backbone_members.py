"""The curated backbones of `search_spaces/backbone`: timm knows each, at the size suggested."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml

import search_spaces
from search_spaces.config import BackboneConfig
from search_spaces.grammar import FloatInterval, parse_sweep
from trainables.timm_models import Wanted, build_timm_model

FOLDER = Path(search_spaces.__file__).parent / "backbone"
MEMBERS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
# What the teams of USERS.md won with, and one of every family.
NAMED = {
    "convnext_tiny", "convnext_small", "convnext_base", "convnext_large",
    "convnextv2_tiny", "convnextv2_base", "convnextv2_large",
    "efficientnet_b0", "efficientnet_b3", "efficientnet_b4",
    "efficientnetv2_s", "efficientnetv2_m", "efficientnetv2_rw_m",
    "swin_tiny", "swin_base", "swinv2_base",
    "vit_small", "vit_base", "vit_large", "deit3_base", "deit3_large",
    "eva02_tiny", "eva02_small", "eva02_base", "eva02_large",
    "regnety_032", "regnety_160", "regnety_320", "regnety_1280",
    "resnet18", "resnet50", "resnet101", "resnext50", "resnext101",
    "mobilenetv3_large", "mobilenetv4_medium",
}  # fmt: skip


def text(member: str) -> str:
    return (FOLDER / f"{member}.yaml").read_text(encoding="utf-8")


def values(member: str) -> dict[str, Any]:
    found = yaml.safe_load(text(member))
    assert isinstance(found, dict)
    return found


@cache
def names_with_weights() -> frozenset[str]:
    return frozenset(timm.list_pretrained())


def test_every_promised_family_is_there() -> None:
    assert set(MEMBERS) >= NAMED


@pytest.mark.parametrize("member", MEMBERS)
def test_timm_knows_the_name_and_its_weights(member: str) -> None:
    config = BackboneConfig(**{k: v for k, v in values(member).items() if k != "suggest"})
    architecture, _, tag = config.name.partition(".")
    assert timm.is_model(architecture)
    assert not (config.pretrained or tag) or config.name in names_with_weights()


@pytest.mark.parametrize("member", MEMBERS)
def test_the_header_names_a_licence_that_forbids_commerce(member: str) -> None:
    header = text(member).partition("name:")[0]
    assert header.startswith("# ")
    known = timm.get_pretrained_cfg(values(member)["name"])
    licence = (known and known.license) or ""
    restricted = re.search(r"(^|-)(nc|noncommercial|research|seer|dinov3)(-|$)", licence)
    assert bool(restricted) == ("not for commercial use" in header), licence


@pytest.mark.parametrize("member", MEMBERS)
def test_what_is_suggested_can_be_trained(member: str) -> None:
    found = values(member)
    suggest = found["suggest"]
    assert set(suggest) == {"lr", "image_size", "batch_size"}
    size, batch = suggest["image_size"], suggest["batch_size"]
    assert math.log2(batch).is_integer()
    dimension = parse_sweep("optimizer.lr", suggest["lr"])
    assert isinstance(dimension, FloatInterval)
    assert 0 < dimension.low < dimension.high <= 0.1
    known = timm.get_pretrained_cfg(found["name"])
    if known and found["pretrained"] and known.fixed_input_size:
        assert size == known.input_size[-1]
    elif known:
        largest = max(known.input_size[-1], (known.test_input_size or known.input_size)[-1])
        assert size <= largest


@pytest.mark.slow
@pytest.mark.parametrize("member", MEMBERS)
def test_the_model_takes_images_of_the_suggested_size(member: str) -> None:
    """Shapes only: nothing is allocated on the meta device."""
    found = values(member)
    size = found["suggest"]["image_size"]
    wanted = Wanted(found["name"], 3, size, drop_path_rate=found["drop_path_rate"])
    with torch.device("meta"), torch.no_grad():
        model, _ = build_timm_model(wanted)
        if found.get("grad_checkpointing"):
            model.set_grad_checkpointing(True)  # type: ignore[operator]
        assert model.eval()(torch.empty(2, 3, size, size)).shape == (2, 3)
