"""Model weights as safetensors: readable by anyone, executing nothing."""

from __future__ import annotations

from safetensors.torch import load, save
from torch import Tensor, nn

from ensemble.files import Location
from trainables.task import FoldTask


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """The state on the CPU, detached from what training does next."""
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}


def save_weights(location: Location, model: nn.Module, task: FoldTask) -> None:
    """Keys as timm's, so that `timm.create_model(name, checkpoint_path=…)` loads the file."""
    tensors = {key: value.contiguous() for key, value in copy_of(model).items()}
    metadata = {
        "format": "pt",
        "config_id": task.config_id,
        "fold": str(task.fold),
        "backbone": task.configuration.backbone.name,
    }
    location.write_bytes(save(tensors, metadata))


def load_weights(location: Location, model: nn.Module) -> None:
    """Load a file written by `save_weights`; ValueError where it is another model's."""
    try:
        model.load_state_dict(load(location.read_bytes()))
    except RuntimeError as error:
        line = " ".join(str(error).split())[:200]
        raise ValueError(f"{location}: these are another model's weights: {line}") from error
