"""Model weights as safetensors: readable by anyone, executing nothing.

The file's own header says how its model is built, so that weights can leave the run without the
hub or folder that the model once came from. Of a plain timm model the keys are timm's; of a
composed one (`composed.py`) they are timm's behind `backbones.0.` and `backbones.1.`, with `head.`
beside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ensemble.files import Location
from trainables.recipe import Recipe
from trainables.task import FoldTask


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """The state on the CPU, detached from what training does next."""
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}


def save_weights(location: Location, model: nn.Module, recipe: Recipe, task: FoldTask) -> None:
    """Keys of a plain model as timm's, so that `timm.create_model(name, checkpoint_path=…)` loads
    the file. The same weights always give the same bytes."""
    tensors = {key: value.contiguous() for key, value in copy_of(model).items()}
    metadata = {
        "format": "pt",
        "config_id": task.config_id,
        "fold": str(task.fold),
        "backbone": task.configuration.backbone.name,
        "recipe": json.dumps(recipe.to_dict()),
    }
    location.write_bytes(_with_metadata(save(tensors), metadata))


def load_weights(location: Location, model: nn.Module) -> None:
    """Load a file written by `save_weights`; ValueError where it is damaged or another model's."""
    state = _tensors(location.read_bytes(), location)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{location}: these are another model's weights: {_line(error)}"
        ) from error


def read_recipe(location: Location) -> Recipe:
    """How the model of these weights is built; ValueError where `save_weights` did not say. Reads
    the header alone, which on an object store saves a whole download."""
    return _recipe(_beginning(location), location)


def fold_run_of(location: Location) -> tuple[str, str] | None:
    """config_id and fold of the fold run that wrote these weights, wherever they were copied to;
    None where the header names none, or the file is no safetensors file."""
    try:
        header, _ = _split(_beginning(location))
        written = header["__metadata__"]
        return written["config_id"], written["fold"]
    except (KeyError, TypeError, ValueError):
        return None


def read_weights(location: Location) -> tuple[Recipe, dict[str, Tensor]]:
    """Recipe and tensors; ValueError where the file is damaged or not of `save_weights`."""
    data = location.read_bytes()
    return _recipe(data, location), _tensors(data, location)


def _beginning(location: Location) -> bytes:
    """The header and the length before it."""
    with location.open_input() as stream:
        start = bytes(stream.read(8))
        # No more than there is: the length of a damaged file may be any number.
        return start + bytes(stream.read(min(int.from_bytes(start, "little"), stream.size())))


def _tensors(data: bytes, location: Location) -> dict[str, Tensor]:
    try:
        return dict(load(data))
    except SafetensorError as error:
        raise ValueError(f"{location}: not a whole safetensors file: {_line(error)}") from error


def _recipe(data: bytes, location: Location) -> Recipe:
    try:
        header, _ = _split(data)
        return Recipe.from_dict(json.loads(header["__metadata__"]["recipe"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{location}: does not say which model it is for: {_line(error)}"
        ) from error


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors. A safetensors file begins with the length of its JSON header, 8 bytes
    little-endian."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def _with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """safetensors itself would write the metadata in another order every time."""
    header, tensors = _split(data)
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + tensors


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
