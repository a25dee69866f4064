"""timm models as our users name them, with errors that finish the job."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import timm.data
import timm.models
import torch
from torch import nn

from search_spaces.config import BackboneConfig
from trainables.hub import cached_folder, weights_in, why_out_of_reach

LOCAL_PREFIX = "local-dir:"
HUB_PREFIXES = ("hf_hub:", "hf-hub:")
NOT_IN_TIMM = (*HUB_PREFIXES, LOCAL_PREFIX)
OURS_TO_SAY = ("num_classes", "drop_rate", "drop_path_rate")
DEFAULT_MEAN = (0.485, 0.456, 0.406)
DEFAULT_STD = (0.229, 0.224, 0.225)


class BackboneError(ValueError):
    """A model that cannot be built as asked: one line for the user."""


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation of RGB in [0, 1]."""

    mean: tuple[float, float, float] = DEFAULT_MEAN
    std: tuple[float, float, float] = DEFAULT_STD


@dataclass(frozen=True)
class Recipe:
    """How stock timm builds a model again without asking anyone: its architecture, the arguments
    beyond the number of classes, and what its input has to look like."""

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    normalisation: Normalisation = Normalisation()

    def to_dict(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "arguments": dict(self.arguments),
            "mean": list(self.normalisation.mean),
            "std": list(self.normalisation.std),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        return cls(
            architecture=str(values["architecture"]),
            arguments=dict(values["arguments"]),
            normalisation=Normalisation(_three(values["mean"]), _three(values["std"])),
        )


@dataclass(frozen=True)
class Backbone:
    """A model, and how it is built again."""

    model: nn.Module
    recipe: Recipe


def build_backbone(config: BackboneConfig, n_classes: int, image_size: int) -> Backbone:
    """A timm model with `n_classes` outputs, weights loaded where asked. Its head is fresh unless
    the weights have as many classes.

    Raises BackboneError for an unknown name, weights that do not fit, or a hub out of reach."""
    check_backbone_name(config.name)
    arguments = {"num_classes": n_classes, "drop_rate": config.drop_rate}
    if config.drop_path_rate:
        arguments["drop_path_rate"] = config.drop_path_rate
    from_hub = config.name.startswith(HUB_PREFIXES)  # then even its shape is only known there
    if from_hub or (config.pretrained and not config.weights):
        check_hub_weights(config.name)
    name = _local_name(config.name)
    if config.weights:
        model, sized = _create_from_file(name, arguments, image_size, Path(config.weights))
    elif config.pretrained:
        model, sized = _create_pretrained(config.name, arguments, image_size)
    else:
        model, sized = _create(name, arguments, image_size)
    # What the model's own folder says comes first: timm takes it only where nothing else is said.
    kept = _folder_arguments(name) | ({"img_size": image_size} if sized else {})
    architecture = str(pretrained_config(model)["architecture"])
    return Backbone(model, Recipe(architecture, kept, normalisation_of(model)))


def rebuild(recipe: Recipe, n_classes: int) -> nn.Module:
    """The model of a recipe with fresh weights. Asks neither hub nor folder: the architecture has
    to be one of timm's own, else BackboneError."""
    check_backbone_name(recipe.architecture, timm_only=True)
    try:
        return timm.create_model(recipe.architecture, num_classes=n_classes, **recipe.arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise BackboneError(f"backbone {recipe.architecture}: {_line(error)}") from error


def check_backbone_name(name: str, *, timm_only: bool = False) -> None:
    """Raises BackboneError, with the nearest names, when timm does not know `name`. A name on the
    hub or a folder is only looked up when the model is built; `timm_only` refuses it."""
    if name.startswith(NOT_IN_TIMM) and not timm_only:
        return
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise BackboneError(
            f"backbone.name={name}: timm {timm.__version__} has no such model; {hint}"
        )
    if not tag:
        return
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = timm.list_pretrained(f"{base}.*")
        near = difflib.get_close_matches(name, tags, n=3, cutoff=0.0)
        hint = f"did you mean {', '.join(near)}?" if near else f"it has none: use {base}"
        raise BackboneError(
            f"backbone.name={name}: timm knows {base} but not the weights '{tag}'; {hint}"
        ) from error


def check_hub_weights(name: str, timeout_seconds: float = 5.0) -> None:
    """Raises BackboneError at once when there are no pretrained weights of `name`, or when they
    are neither cached nor in reach."""
    if name.startswith(LOCAL_PREFIX):
        return
    repository = _repository(name)
    if repository is None or cached_folder(repository):
        return
    why = why_out_of_reach(timeout_seconds)
    if why:
        raise _not_loaded(name, why)


def normalisation_of(model: nn.Module) -> Normalisation:
    """What the model's pretrained configuration says of its input."""
    data = timm.data.resolve_model_data_config(model)
    return Normalisation(_three(data["mean"]), _three(data["std"]))


def pretrained_config(model: nn.Module) -> dict[str, Any]:
    """timm's description of a model and its weights."""
    config = model.pretrained_cfg
    assert isinstance(config, dict)
    return config


def _create_pretrained(
    name: str, arguments: Mapping[str, Any], image_size: int
) -> tuple[nn.Module, bool]:
    local = _local_name(name)
    wanted: dict[str, Any] = {**arguments, "pretrained": True}
    if not local.startswith(NOT_IN_TIMM) and (file := _cached_weights(name)):
        wanted["pretrained_cfg_overlay"] = {"file": str(file)}
    try:
        return _create(local, wanted, image_size)
    except BackboneError as error:
        raise _not_loaded(name, _line(error.__cause__ or error)) from error


def _create_from_file(
    name: str, arguments: Mapping[str, Any], image_size: int, path: Path
) -> tuple[nn.Module, bool]:
    """A local checkpoint goes the way of timm's own weights, so that position embeddings are
    resized to the image. A head of another size is replaced by the fresh one beforehand: so all
    the rest is checked tensor by tensor."""
    path = path.expanduser()
    fresh, _ = _create(name, arguments, image_size)
    state = _read_state(path)
    own = fresh.state_dict()
    for key in _head_keys(fresh):
        if key not in state or state[key].shape != own[key].shape:
            state[key] = own[key]
    overlay = {
        "state_dict": state,
        "source": None,  # not the folder or hub that the architecture comes from
        "num_classes": arguments["num_classes"],
        "label_offset": 0,
    }
    wanted = {**arguments, "pretrained": True, "pretrained_cfg_overlay": overlay}
    try:
        model, sized = _create(name, wanted, image_size)
    except BackboneError as error:
        raise BackboneError(
            f"backbone.weights={path}: does not fit {name}: {_line(error.__cause__ or error)[:200]}"
            "; is it another backbone's file?"
        ) from error
    del pretrained_config(model)["state_dict"]  # else a second copy stays in memory
    return model, sized


def _create(name: str, arguments: Mapping[str, Any], image_size: int) -> tuple[nn.Module, bool]:
    """The model, and whether it was told the size of the image. Vision transformers have to know
    it; convolutional nets refuse to be told."""
    try:
        try:
            return timm.create_model(name, img_size=image_size, **arguments), True
        except TypeError:
            return timm.create_model(name, **arguments), False
    except (TypeError, OSError, RuntimeError, ValueError, KeyError, AssertionError) as error:
        raise BackboneError(f"backbone.name={name}: {_line(error)}") from error


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise BackboneError(f"backbone.weights={path}: no such file; give a .safetensors or .pth")
    try:
        state = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # the readers raise many kinds; all mean "not a weights file"
        raise BackboneError(f"backbone.weights={path}: cannot be read: {_line(error)}") from error
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise BackboneError(f"backbone.weights={path}: holds no tensors")
    return tensors


def _head_keys(model: nn.Module) -> list[str]:
    """The keys of the classifier's tensors."""
    names = pretrained_config(model).get("classifier") or ()
    prefixes = (names,) if isinstance(names, str) else tuple(names)
    return [key for key in model.state_dict() if key.rpartition(".")[0] in prefixes]


def _local_name(name: str) -> str:
    """A hub model that is cached as the folder it is cached in; any other name as it is."""
    if name.startswith(HUB_PREFIXES):
        folder = cached_folder(name.partition(":")[2])
        if folder and (folder / "config.json").is_file():
            return f"{LOCAL_PREFIX}{folder}"
    return name


def _folder_arguments(name: str) -> dict[str, Any]:
    """The arguments that a model folder's configuration brings with it."""
    name = _local_name(name)  # by now a hub model's folder is cached
    if not name.startswith(LOCAL_PREFIX):
        return {}
    file = Path(name.removeprefix(LOCAL_PREFIX)) / "config.json"
    found = json.loads(file.read_text(encoding="utf-8")).get("model_args") or {}
    return {key: value for key, value in found.items() if key not in OURS_TO_SAY}


def _cached_weights(name: str) -> Path | None:
    """The cached file of one of timm's own names, where its format is timm's own too."""
    config, repository = timm.get_pretrained_cfg(name), _repository(name)
    if repository is None or config.custom_load or config.hf_hub_filename:
        return None
    folder = cached_folder(repository)
    return folder and weights_in(folder)


def _repository(name: str) -> str | None:
    """Where on the hub the weights of `name` are; None where they come from elsewhere. Raises
    BackboneError where timm has none."""
    if name.startswith(HUB_PREFIXES):
        return name.partition(":")[2]
    config = timm.get_pretrained_cfg(name)
    if config is None:  # a name that timm keeps for another one
        return None
    if not (config.hf_hub_id or config.url or config.file):
        raise BackboneError(
            f"backbone.name={name}: timm has no pretrained weights of it; set "
            "backbone.pretrained=false, or give a local file with backbone.weights=FILE"
        )
    return config.hf_hub_id


def _not_loaded(name: str, detail: str) -> BackboneError:
    return BackboneError(
        f"backbone.name={name}: pretrained weights cannot be loaded ({detail}); connect to the "
        "network once, give a local file with backbone.weights=FILE, or set "
        "backbone.pretrained=false"
    )


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = values
    return float(first), float(second), float(third)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
