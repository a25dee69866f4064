"""Who prepares the batches, by what was measured."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.loader_settings import (
    MOST_WORKERS,
    LoaderSettings,
    cores_of_share,
    cpus_for_one_device,
    measured_settings,
    starting_settings,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
THREAD = LoaderSettings(prefetch=2, pinned=True)


def test_on_a_cpu_batches_are_prepared_where_they_are_used() -> None:
    assert starting_settings(CPU, None) == LoaderSettings()
    assert starting_settings(CPU, 2) == LoaderSettings(workers=2, prefetch=2)


def test_for_a_gpu_a_thread_prepares_ahead_in_pinned_memory() -> None:
    assert starting_settings(CUDA, None) == THREAD
    assert starting_settings(CUDA, 3) == LoaderSettings(workers=3, prefetch=2, pinned=True)


def test_no_process_is_started_where_the_thread_keeps_up() -> None:
    assert measured_settings(THREAD, 0.005, 0.1, cpus=16) == THREAD


@pytest.mark.parametrize(("cpus", "workers"), [(16, 6), (4, 4), (1, 1)])
def test_a_hungry_device_gets_as_many_processes_as_it_needs_and_the_cpus_allow(
    cpus: int, workers: int
) -> None:
    found = measured_settings(THREAD, 0.5, 0.1, cpus)
    assert found == LoaderSettings(workers, prefetch=2, pinned=True)


@given(prepare=st.floats(1e-6, 100.0), step=st.floats(0.0, 100.0), cpus=st.integers(1, 200))
def test_the_choice_is_always_possible(prepare: float, step: float, cpus: int) -> None:
    found = measured_settings(THREAD, prepare, step, cpus)
    assert 0 <= found.workers <= min(cpus, MOST_WORKERS)
    assert found.pinned


def test_the_cores_are_shared_among_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert cpus_for_one_device() == 4
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert cpus_for_one_device() == 16


@pytest.mark.parametrize(
    ("share", "machine", "expected"),
    [
        ({"CPU": 1.0, "GPU": 1.0}, {"CPU": 48.0, "GPU": 4.0}, 12),
        ({"CPU": 1.0, "GPU": 0.25}, {"CPU": 48.0, "GPU": 4.0}, 3),
        ({"CPU": 24.0, "GPU": 1.0}, {"CPU": 48.0, "GPU": 4.0}, 24),
        ({"CPU": 1.0, "GPU": 1.0}, {"CPU": 48.0, "GPU": 1.0}, 48),
        ({"CPU": 2.0}, {"CPU": 8.0}, 12),
        ({"CPU": 0.1}, {"CPU": 48.0}, 1),
        ({}, {}, 48),
    ],
)
def test_a_fold_run_has_the_cores_of_its_part_of_the_machine(
    share: dict[str, float], machine: dict[str, float], expected: int
) -> None:
    assert cores_of_share(48, share, machine) == expected


@given(gpus=st.integers(1, 16), parts=st.integers(1, 8), cores=st.integers(1, 512))
def test_fold_runs_that_fill_a_machine_do_not_share_more_cores_than_it_has(
    gpus: int, parts: int, cores: int
) -> None:
    """But for one each, where there are fewer."""
    machine = {"CPU": float(cores), "GPU": float(gpus)}
    share = {"CPU": 0.5 / (gpus * parts), "GPU": 1.0 / parts}
    each = cores_of_share(cores, share, machine)
    assert each * gpus * parts <= max(cores, gpus * parts)
