"""Local files of weights: read without executing anything, and found in a folder by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import timm.models
import torch

from trainables.recipe import BackboneError, WeightsNotHereError, one_line

SUFFIXES = (".safetensors", ".pth", ".bin")
LISTED = 8  # so many names fit in one line of an error

State = dict[str, torch.Tensor]


def read_state(path: Path, key: str) -> State:
    """The tensors of a file of weights; BackboneError, naming `key`, where there are none, the
    WeightsNotHereError among them where there is no file."""
    if not path.is_file():
        raise WeightsNotHereError(f"{key}={path}: no such file; give a .safetensors or .pth")
    try:
        state = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # the readers raise many kinds; all mean "not a weights file"
        raise BackboneError(f"{key}={path}: cannot be read: {one_line(error)}") from error
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise BackboneError(f"{key}={path}: holds no tensors")
    return tensors


def find_weights(place: Path, names: Iterable[str], key: str) -> Path:
    """`place` itself, or where it is a folder the first `<name>.safetensors`, `.pth` or `.bin` in
    it. WeightsNotHereError lists what the folder holds instead."""
    place = place.expanduser()
    if not place.is_dir():
        return place
    candidates = [f"{name}{suffix}" for name in dict.fromkeys(names) for suffix in SUFFIXES]
    found = next((place / name for name in candidates if (place / name).is_file()), None)
    if found is None:
        wanted = " or ".join(candidates[:: len(SUFFIXES)])
        raise WeightsNotHereError(
            f"{key}={place}: the folder has no {wanted} (nor .pth, .bin); it holds "
            f"{_listing(place)}; rename the file, or give it as {key}=FILE"
        )
    return found


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(names[:LISTED]) or "nothing") + more
