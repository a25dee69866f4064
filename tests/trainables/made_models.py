"""Weights made on the spot, as files and as the hub's cache would hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import timm.models._hub
import torch
from safetensors.torch import save_file

State = dict[str, torch.Tensor]
REVISION = "0123456789abcdef0123456789abcdef01234567"


def made_state(name: str, n_classes: int = 1000, seed: int = 1, **arguments: Any) -> State:
    """The weights of a timm model, every tensor of floats filled from `seed`."""
    model = timm.create_model(name, num_classes=n_classes, **arguments)
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand(value.shape, generator=generator) * 0.1
        if value.is_floating_point()
        else value
        for key, value in model.state_dict().items()
    }


def write_model_folder(
    folder: Path, state: State, architecture: str, n_classes: int, **model_args: Any
) -> Path:
    """A folder as `local-dir:` and `hf_hub:` models have it."""
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors")
    config = {
        "architecture": architecture,
        "num_classes": n_classes,
        "model_args": model_args,
        "pretrained_cfg": {
            "num_classes": n_classes,
            "input_size": [3, 160, 160],
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "classifier": timm.get_pretrained_cfg(architecture).classifier,
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_hub_cache(cache: Path, repository: str, files: Mapping[str, bytes]) -> Path:
    """The cache of the hub's client after it has downloaded `files`."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(REVISION)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)
    return snapshot


def closed_network(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """A hub at a closed port, an empty cache of its client, and no patience: the first question
    that the client would ask (and repeat for most of a minute) fails the test."""

    def asked(*arguments: object, **_: object) -> None:
        raise AssertionError(f"the hub was asked for {arguments}")

    patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE"):
        patch.delenv(name, raising=False)
    patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(timm.models._hub, "hf_hub_download", asked)
