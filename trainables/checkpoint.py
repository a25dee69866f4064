"""What a running fold run needs to go on exactly where it stopped.

The random state is not stored: every epoch seeds itself from (seed, configuration, fold, epoch),
so the epoch number is the random state.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import torch

from ensemble.files import Location
from trainables.errors import DataError
from trainables.task import EpochResult

VERSION = 2


@dataclass(frozen=True)
class Checkpoint:
    """State after `epoch` epochs. `best_epoch`, `best_model`: only where the validation fold
    chooses the epoch. `averager`: of averaged weights. `micro_batch`: 0 where nobody said."""

    epoch: int
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    scaler: dict[str, Any]
    history: tuple[EpochResult, ...]
    best_epoch: int = 0
    best_model: dict[str, torch.Tensor] | None = None
    averager: dict[str, Any] | None = None
    micro_batch: int = 0


def save_checkpoint(location: Location, checkpoint: Checkpoint) -> None:
    """Write aside and rename: a kill leaves the checkpoint before."""
    buffer = io.BytesIO()
    torch.save(
        {
            "version": VERSION,
            "epoch": checkpoint.epoch,
            "model": checkpoint.model,
            "optimizer": checkpoint.optimizer,
            "schedule": checkpoint.schedule,
            "scaler": checkpoint.scaler,
            "history": [result.to_dict() for result in checkpoint.history],
            "best_epoch": checkpoint.best_epoch,
            "best_model": checkpoint.best_model,
            "averager": checkpoint.averager,
            "micro_batch": checkpoint.micro_batch,
        },
        buffer,
    )
    location.write_bytes(buffer.getvalue())


def load_checkpoint(location: Location) -> Checkpoint | None:
    """The stored state, or None where there is none. Only tensors and plain values are read.

    Raises DataError for a file that is damaged or of another version."""
    if not location.exists():
        return None
    data = location.read_bytes()
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if state["version"] != VERSION:
            raise ValueError(f"version {state['version']}, this foldblend reads {VERSION}")
        return _from_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, UnpicklingError) as error:
        line = " ".join(str(error).split())[:200]
        raise DataError(
            f"{location}: cannot be read as a checkpoint: {line}; delete it, and the fold run "
            "starts over"
        ) from error


def _from_dict(state: dict[str, Any]) -> Checkpoint:
    return Checkpoint(
        epoch=state["epoch"],
        model=state["model"],
        optimizer=state["optimizer"],
        schedule=state["schedule"],
        scaler=state["scaler"],
        history=tuple(EpochResult.from_dict(result) for result in state["history"]),
        best_epoch=state["best_epoch"],
        best_model=state["best_model"],
        averager=state["averager"],
        micro_batch=state["micro_batch"],
    )


def unreported(history: Sequence[EpochResult], reported_epochs: int) -> list[EpochResult]:
    """Results that were computed before a kill and that the search never heard of."""
    return [result for result in history if result.epoch > reported_epochs]
