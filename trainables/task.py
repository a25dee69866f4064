"""What a worker is told: one configuration, one fold, and where the run lies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from search_spaces.config import Configuration

# The key under which a worker says that a fold run's files are all there.
COMPLETE = "complete"

_NO_FILE_NAME = re.compile(r"[/:\\\s]")


def fold_run_name(backbone: str, config_id: str, fold: int) -> str:
    """What people see of a fold run, in Ray's dashboard, logs and folders."""
    return f"{_NO_FILE_NAME.sub('_', backbone)}-{config_id}-fold{fold}"


@dataclass(frozen=True)
class FoldTask:
    """One fold run. `reported_epochs`: epochs the search has heard of already; a resumed run
    does not repeat them. `run`: path or URI of the run directory."""

    run: str
    config_id: str
    configuration: Configuration
    fold: int
    reported_epochs: int = 0
    threads: int = 1

    @property
    def name(self) -> str:
        return fold_run_name(self.configuration.backbone.name, self.config_id, self.fold)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a Ray Tune trial's `config`."""
        return {
            "run": self.run,
            "config_id": self.config_id,
            "configuration": self.configuration.model_dump(mode="json"),
            "fold": self.fold,
            "reported_epochs": self.reported_epochs,
            "threads": self.threads,
        }

    def of(self, configuration: Configuration) -> FoldTask:
        """The same fold of another configuration."""
        return replace(self, config_id=configuration.config_id, configuration=configuration)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FoldTask:
        known = dict(values)
        configuration = Configuration.model_validate(known.pop("configuration"))
        return cls(configuration=configuration, **known)


@dataclass(frozen=True)
class EpochResult:
    """What a fold run tells after an epoch. `epoch` counts from 1; `metrics` are of the validation
    fold, plus `train_loss`, `lr`, `seconds` (wall clock of the epoch), `images_per_second` and,
    with CUDA, `gpu_memory_bytes` (the most that tensors took in the epoch). `done` means that every
    file of this fold run is complete on disk. `node`: address of the machine, "" unless whoever
    drives the worker says so (it is no part of `to_dict`)."""

    epoch: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    done: bool = False
    node: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "metrics": dict(self.metrics), "done": self.done}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EpochResult:
        return cls(int(values["epoch"]), dict(values["metrics"]), bool(values["done"]))
