"""How batches are brought to the model, chosen by what was measured, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from trainables.images import usable_cores

# Measured steps before the choice; the first of them warm up and do not count.
WARM_UP, PROBE_BATCHES = 2, 8
# A thread that prepares the next batch hides a preparation of up to this share of a step.
HIDDEN = 0.9
MOST_WORKERS = 16


@dataclass(frozen=True)
class LoaderSettings:
    """`workers`: processes that prepare batches, 0 for none. `prefetch`: batches prepared ahead, by
    a thread where there are no workers; 0 prepares a batch when it is asked for. `pinned`: in
    page-locked memory, from which a GPU copies while it computes."""

    workers: int = 0
    prefetch: int = 0
    pinned: bool = False


def starting_settings(device: torch.device, workers: int | None) -> LoaderSettings:
    """Before anything was measured. `workers`: what the user asked for, None to let us choose.

    On a CPU the model itself needs the cores: what prepares a batch elsewhere takes them away, and
    the fold runs side by side keep all of them busy. So there is no worker unless asked for."""
    if device.type == "cpu":
        return LoaderSettings(workers or 0, 2 if workers else 0, pinned=False)
    return LoaderSettings(workers or 0, prefetch=2, pinned=True)


def measured_settings(
    before: LoaderSettings, prepare_seconds: float, step_seconds: float, cpus: int
) -> LoaderSettings:
    """`prepare_seconds`: one batch, in one process; `step_seconds`: one step of the model on it.

    No worker where one thread keeps up, which with decoded images and augmentation on the device it
    does; else as many as the device's hunger asks for and the CPUs allow."""
    if prepare_seconds <= HIDDEN * step_seconds:
        return before
    needed = math.ceil(1.2 * prepare_seconds / max(step_seconds, 1e-6))
    workers = max(1, min(needed, cpus, MOST_WORKERS))
    return LoaderSettings(workers, prefetch=2, pinned=before.pinned)


def cores_of_share(cores: int, share: Mapping[str, float], machine: Mapping[str, float]) -> int:
    """Of a machine's `cores` those of one fold run. `share`: what it takes of the "CPU" and "GPU"
    that the `machine` has. The larger part of the two counts: with one GPU of four a fourth of the
    cores, for no more than four such fold runs fit, however few CPUs they ask for."""
    parts = [share.get(kind, 0.0) / machine[kind] for kind in ("CPU", "GPU") if machine.get(kind)]
    return max(1, int(cores * min(1.0, max(parts, default=1.0)) + 1e-9))


def cpus_for_one_device() -> int:
    """This machine's cores for each of the GPUs that this process sees."""
    return max(1, usable_cores() // max(1, torch.cuda.device_count()))
