"""One timm model as our users name it, with its weights, and with errors that finish the job."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import timm.data
import torch
from torch import nn

from trainables.hub import cached_folder, weights_in, why_out_of_reach
from trainables.model_files import State, find_weights, read_state
from trainables.recipe import (
    BackboneError,
    Normalisation,
    Part,
    WeightsNotHereError,
    one_line,
    three,
)

LOCAL_PREFIX = "local-dir:"
HUB_PREFIXES = ("hf_hub:", "hf-hub:")
NOT_IN_TIMM = (*HUB_PREFIXES, LOCAL_PREFIX)
OURS_TO_SAY = ("num_classes", "drop_rate", "drop_path_rate")
NAME, SECOND = "backbone.name", "backbone.second"
WEIGHTS_KEYS = {NAME: "backbone.weights", SECOND: "backbone.second_weights"}


@dataclass(frozen=True)
class Earlier:
    """The state of an earlier model, and where it came from for messages (`key=place`)."""

    state: Mapping[str, torch.Tensor]
    source: str


@dataclass(frozen=True)
class Wanted:
    """One timm model as asked for. `n_classes` 0 is one without a classifier, which answers with
    features. `key`: the key of the configuration that names it."""

    name: str
    n_classes: int
    image_size: int
    pretrained: bool = False
    weights: str | None = None
    earlier: Earlier | None = None
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    key: str = NAME

    @property
    def arguments(self) -> dict[str, Any]:
        values = {"num_classes": self.n_classes, "drop_rate": self.drop_rate}
        return values | ({"drop_path_rate": self.drop_path_rate} if self.drop_path_rate else {})


def build_timm_model(wanted: Wanted) -> tuple[nn.Module, Part]:
    """The model with its weights where asked (an earlier model's before local ones before the
    hub's), and how it is built again. A classifier of another size than the weights' is fresh.

    Raises BackboneError for an unknown name, weights that do not fit, or a hub out of reach."""
    check_backbone_name(wanted.name, key=wanted.key)
    local_weights = wanted.weights or wanted.earlier
    from_hub = wanted.name.startswith(HUB_PREFIXES)  # then even its shape is only known there
    if from_hub or (wanted.pretrained and not local_weights):
        check_hub_weights(wanted.name, key=wanted.key)
    if wanted.earlier:
        model, sized = _create_from_state(wanted, wanted.earlier.state, wanted.earlier.source)
    elif wanted.weights:
        model, sized = _create_from_file(wanted, wanted.weights)
    elif wanted.pretrained:
        model, sized = _create_pretrained(wanted)
    else:
        model, sized = _create(wanted, _local_name(wanted.name))
    # What the model's own folder says comes first: timm takes it only where nothing else is said.
    kept = _folder_arguments(wanted.name) | ({"img_size": wanted.image_size} if sized else {})
    return model, Part(str(pretrained_config(model)["architecture"]), kept)


def rebuild_part(part: Part, n_classes: int) -> nn.Module:
    """The model of a recipe with fresh weights. Asks neither hub nor folder: the architecture has
    to be one of timm's own, else BackboneError."""
    check_backbone_name(part.architecture, timm_only=True)
    try:
        return timm.create_model(part.architecture, num_classes=n_classes, **part.arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise BackboneError(f"backbone {part.architecture}: {one_line(error)}") from error


def check_backbone_name(name: str, *, timm_only: bool = False, key: str = NAME) -> None:
    """Raises BackboneError, with the nearest names, when timm does not know `name`. A name on the
    hub or a folder is only looked up when the model is built; `timm_only` refuses it."""
    if name.startswith(NOT_IN_TIMM) and not timm_only:
        return
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise BackboneError(f"{key}={name}: timm {timm.__version__} has no such model; {hint}")
    if not tag:
        return
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = timm.list_pretrained(f"{base}.*")
        near = difflib.get_close_matches(name, tags, n=3, cutoff=0.0)
        hint = f"did you mean {', '.join(near)}?" if near else f"it has none: use {base}"
        raise BackboneError(
            f"{key}={name}: timm knows {base} but not the weights '{tag}'; {hint}"
        ) from error


def check_hub_weights(name: str, timeout_seconds: float = 5.0, *, key: str = NAME) -> None:
    """Raises BackboneError at once when there are no pretrained weights of `name`, or when they
    are neither cached nor in reach."""
    if name.startswith(LOCAL_PREFIX):
        return
    repository = _repository(name, key)
    if repository is None or cached_folder(repository):
        return
    why = why_out_of_reach(timeout_seconds)
    if why:
        raise _not_loaded(name, why, key)


def weights_file(name: str, weights: str, key: str = NAME) -> Path:
    """The file that `weights` means for the model `name`: itself, or one of a folder's, found by
    the full name with its tag, then by the architecture. BackboneError where there is none."""
    return find_weights(Path(weights), _file_names(name), WEIGHTS_KEYS[key])


def folder_of(name: str) -> Path | None:
    """The folder that a `local-dir:` or a cached hub model lies in; None for timm's own names."""
    local = _local_name(name)
    return Path(local.removeprefix(LOCAL_PREFIX)) if local.startswith(LOCAL_PREFIX) else None


def normalisation_of(model: nn.Module) -> Normalisation:
    """What the model's pretrained configuration says of its input."""
    data = timm.data.resolve_model_data_config(model)
    return Normalisation(three(data["mean"]), three(data["std"]))


def pretrained_config(model: nn.Module) -> dict[str, Any]:
    """timm's description of a model and its weights."""
    config = model.pretrained_cfg
    assert isinstance(config, dict)
    return config


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """The modules of timm's classifier; () where the model has none to speak of."""
    names = pretrained_config(model).get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _create_pretrained(wanted: Wanted) -> tuple[nn.Module, bool]:
    local = _local_name(wanted.name)
    more: dict[str, Any] = {"pretrained": True}
    if not local.startswith(NOT_IN_TIMM) and (file := _cached_weights(wanted.name, wanted.key)):
        more["pretrained_cfg_overlay"] = {"file": str(file)}
    try:
        return _create(wanted, local, more)
    except BackboneError as error:
        detail = one_line(error.__cause__ or error)
        raise _not_loaded(wanted.name, detail, wanted.key, type(error)) from error


def _create_from_file(wanted: Wanted, weights: str) -> tuple[nn.Module, bool]:
    key = WEIGHTS_KEYS[wanted.key]
    path = weights_file(wanted.name, weights, wanted.key)
    return _create_from_state(wanted, read_state(path, key), f"{key}={path}")


def _create_from_state(
    wanted: Wanted, given: Mapping[str, torch.Tensor], source: str
) -> tuple[nn.Module, bool]:
    """Local weights go the way of timm's own, so that position embeddings are resized to the
    image. A head of another size is replaced by the fresh one beforehand: so all the rest is
    checked tensor by tensor."""
    name = _local_name(wanted.name)
    fresh, _ = _create(wanted, name)
    state: State = dict(given)
    _fit_head(state, fresh)
    overlay = {
        "state_dict": state,
        "source": None,  # not the folder or hub that the architecture comes from
        "num_classes": wanted.n_classes,
        "label_offset": 0,
        "custom_load": False,
    }
    try:
        model, sized = _create(
            wanted, name, {"pretrained": True, "pretrained_cfg_overlay": overlay}
        )
    except BackboneError as error:
        raise BackboneError(
            f"{source}: does not fit {name}: {one_line(error.__cause__ or error)[:200]}"
            "; is it another backbone's file?"
        ) from error
    del pretrained_config(model)["state_dict"]  # else a second copy stays in memory
    return model, sized


def _fit_head(state: State, fresh: nn.Module) -> None:
    """Give `state` the classifier of `fresh` where its own has other shapes or is too many."""
    own, prefixes = fresh.state_dict(), classifier_names(fresh)
    for key in [key for key in state if key.rpartition(".")[0] in prefixes]:
        if key not in own:
            del state[key]
    for key in (key for key in own if key.rpartition(".")[0] in prefixes):
        if key not in state or state[key].shape != own[key].shape:
            state[key] = own[key]


def _create(
    wanted: Wanted, name: str, more: Mapping[str, Any] | None = None
) -> tuple[nn.Module, bool]:
    """The model, and whether it was told the size of the image. Vision transformers have to know
    it; convolutional nets refuse to be told."""
    arguments = {**wanted.arguments, **(more or {})}
    try:
        try:
            return timm.create_model(name, img_size=wanted.image_size, **arguments), True
        except TypeError:
            return timm.create_model(name, **arguments), False
    except (TypeError, OSError, RuntimeError, ValueError, KeyError, AssertionError) as error:
        # A folder that is not here, a hub that does not answer.
        kind = WeightsNotHereError if isinstance(error, OSError) else BackboneError
        raise kind(f"{wanted.key}={name}: {one_line(error)}") from error


def _local_name(name: str) -> str:
    """A hub model that is cached as the folder it is cached in; any other name as it is."""
    if name.startswith(HUB_PREFIXES):
        folder = cached_folder(name.partition(":")[2])
        if folder and (folder / "config.json").is_file():
            return f"{LOCAL_PREFIX}{folder}"
    return name


def _file_names(name: str) -> list[str]:
    """What a file of the weights of `name` may be called, without its suffix."""
    if name.startswith(NOT_IN_TIMM):
        return [name.partition(":")[2].partition("@")[0].rstrip("/").rpartition("/")[2]]
    base, _, tag = name.partition(".")
    known = timm.get_pretrained_cfg(base)
    default = [f"{base}.{known.tag}"] if known and known.tag and not tag else []
    return [name, *default, base]


def _folder_arguments(name: str) -> dict[str, Any]:
    """The arguments that a model folder's configuration brings with it."""
    name = _local_name(name)  # by now a hub model's folder is cached
    if not name.startswith(LOCAL_PREFIX):
        return {}
    file = Path(name.removeprefix(LOCAL_PREFIX)) / "config.json"
    found = json.loads(file.read_text(encoding="utf-8")).get("model_args") or {}
    return {key: value for key, value in found.items() if key not in OURS_TO_SAY}


def _cached_weights(name: str, key: str) -> Path | None:
    """The cached file of one of timm's own names, where its format is timm's own too."""
    config, repository = timm.get_pretrained_cfg(name), _repository(name, key)
    if repository is None or config.custom_load or config.hf_hub_filename:
        return None
    folder = cached_folder(repository)
    return folder and weights_in(folder)


def _repository(name: str, key: str) -> str | None:
    """Where on the hub the weights of `name` are; None where they come from elsewhere. Raises
    BackboneError where timm has none."""
    if name.startswith(HUB_PREFIXES):
        return name.partition(":")[2]
    config = timm.get_pretrained_cfg(name)
    if config is None:  # a name that timm keeps for another one
        return None
    if not (config.hf_hub_id or config.url or config.file):
        raise BackboneError(
            f"{key}={name}: timm has no pretrained weights of it; set "
            f"backbone.pretrained=false, or give a local file with {WEIGHTS_KEYS[key]}=FILE"
        )
    return config.hf_hub_id


def _not_loaded(
    name: str, detail: str, key: str, kind: type[BackboneError] = WeightsNotHereError
) -> BackboneError:
    return kind(
        f"{key}={name}: pretrained weights cannot be loaded ({detail}); connect to the "
        f"network once, give a local file with {WEIGHTS_KEYS[key]}=FILE, or set "
        "backbone.pretrained=false"
    )
