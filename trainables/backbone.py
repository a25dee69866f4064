"""timm models as our users name them, with errors that finish the job."""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from search_spaces.config import BackboneConfig

HUB_PREFIXES = ("hf_hub:", "hf-hub:", "local-dir:")
DEFAULT_MEAN = (0.485, 0.456, 0.406)
DEFAULT_STD = (0.229, 0.224, 0.225)


class BackboneError(ValueError):
    """A model that cannot be built as asked: one line for the user."""


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation of RGB in [0, 1]."""

    mean: tuple[float, float, float] = DEFAULT_MEAN
    std: tuple[float, float, float] = DEFAULT_STD


def build_backbone(config: BackboneConfig, n_classes: int, image_size: int) -> nn.Module:
    """A timm model with a fresh head of `n_classes` outputs, weights loaded where asked.

    Raises BackboneError for an unknown name, weights that do not fit, or a hub out of reach."""
    check_backbone_name(config.name)
    if config.pretrained and not config.weights:
        check_hub_weights(config.name)
    model = _create(config, n_classes, image_size)
    if config.weights:
        load_local_weights(model, Path(config.weights).expanduser())
    return model


def check_backbone_name(name: str) -> None:
    """Raises BackboneError, with the nearest names, when timm does not know `name`."""
    if name.startswith(HUB_PREFIXES):
        return
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise BackboneError(f"backbone.name={name}: timm {timm.__version__} has no such model; {hint}")
    tags = timm.list_pretrained(f"{base}.*")
    if tag and tags and name not in tags:
        near = difflib.get_close_matches(name, tags, n=3, cutoff=0.0)
        raise BackboneError(
            f"backbone.name={name}: timm knows {base} but not the weights '{tag}'; "
            f"did you mean {', '.join(near)}?"
        )


def check_hub_weights(name: str, timeout_seconds: float = 5.0) -> None:
    """Raises BackboneError at once when pretrained weights are neither cached nor in reach.

    The hub's own client retries for most of a minute per file; a closed network shows sooner."""
    repository = _hub_repository(name)
    if repository is None or _is_cached(repository) or _has_proxy():
        return
    host = urlparse(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
            raise OSError("HF_HUB_OFFLINE is set")
        port = host.port or (443 if host.scheme == "https" else 80)
        socket.create_connection((host.hostname or "", port), timeout=timeout_seconds).close()
    except OSError as error:
        raise _offline(name, f"{host.hostname}: {error}") from error


def normalisation_of(model: nn.Module) -> Normalisation:
    """What the model's pretrained configuration says of its input."""
    data = timm.data.resolve_model_data_config(model)
    return Normalisation(tuple(map(float, data["mean"])), tuple(map(float, data["std"])))


def load_local_weights(model: nn.Module, path: Path) -> None:
    """Load a local checkpoint; a head of another size is left fresh, anything else must fit."""
    if not path.is_file():
        raise BackboneError(f"backbone.weights={path}: no such file; give a .safetensors or .pth")
    state = _read_state(path)
    own = model.state_dict()
    head = _head_prefixes(model)
    skip = [
        key
        for key, value in state.items()
        if key in own and own[key].shape != value.shape and key.startswith(head)
    ]
    result = _load(model, {k: v for k, v in state.items() if k not in skip}, path)
    missing = [key for key in result.missing_keys if not key.startswith(head)]
    if missing or result.unexpected_keys:
        raise BackboneError(
            f"backbone.weights={path}: does not fit the model: {len(missing)} tensors missing "
            f"(first: {next(iter(missing), '-')}), {len(result.unexpected_keys)} unknown "
            f"(first: {next(iter(result.unexpected_keys), '-')}); is it another backbone's file?"
        )


def _create(config: BackboneConfig, n_classes: int, image_size: int) -> nn.Module:
    wanted = {
        "pretrained": config.pretrained and not config.weights,
        "num_classes": n_classes,
        "drop_rate": config.drop_rate,
    }
    if config.drop_path_rate:
        wanted["drop_path_rate"] = config.drop_path_rate
    # Vision transformers have to know the size of the image; convolutional nets refuse to be told.
    try:
        try:
            return timm.create_model(config.name, img_size=image_size, **wanted)
        except TypeError:
            return timm.create_model(config.name, **wanted)
    except TypeError as error:
        raise BackboneError(f"backbone.name={config.name}: {_line(error)}") from error
    except (OSError, RuntimeError, ValueError) as error:
        if config.pretrained or config.name.startswith(HUB_PREFIXES):
            raise _offline(config.name, _line(error)) from error
        raise BackboneError(f"backbone.name={config.name}: {_line(error)}") from error


def _load(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path):  # noqa: ANN202
    try:
        return model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise BackboneError(f"backbone.weights={path}: {_line(error)}") from error


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise many kinds; all mean "not a weights file"
        raise BackboneError(f"backbone.weights={path}: cannot be read: {_line(error)}") from error
    return state.get("state_dict", state) if isinstance(state, dict) else {}


def _head_prefixes(model: nn.Module) -> tuple[str, ...]:
    names = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    names = (names,) if isinstance(names, str) else tuple(names)
    return tuple(f"{name}." for name in names) or ("\0",)


def _hub_repository(name: str) -> str | None:
    if name.startswith("local-dir:"):
        return None
    if name.startswith(HUB_PREFIXES):
        return name.split(":", 1)[1].split("@")[0]
    config = timm.get_pretrained_cfg(name)
    return getattr(config, "hf_hub_id", None) and _full_hub_id(config.hf_hub_id, name)


def _full_hub_id(hub_id: str, name: str) -> str:
    if not hub_id.endswith("/"):
        return hub_id
    full = name if "." in name else next(iter(timm.list_pretrained(f"{name}.*")), name)
    return hub_id + full


def _is_cached(repository: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    files = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)


def _has_proxy() -> bool:
    return any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"))


def _offline(name: str, detail: str) -> BackboneError:
    return BackboneError(
        f"backbone.name={name}: pretrained weights cannot be loaded ({detail}); connect to the "
        "network once, give a local file with backbone.weights=FILE, or set "
        "backbone.pretrained=false"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
