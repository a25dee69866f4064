"""The Ray side, as far as it needs no Ray. The rest: `test_engine_on_ray.py`."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from ensemble.files import Location
from search_spaces.config import ResourcesConfig
from search_spaces.space import load_study
from tests.ports import free_port
from tuner import engine, ray_nodes
from tuner.errors import UserError
from tuner.run_directory import RunDirectory
from tuner.slots import Growth, MachineType, Share, Slots


def resources(**values: Any) -> ResourcesConfig:
    return ResourcesConfig.model_validate(values)


def slots_with(
    patch: pytest.MonkeyPatch,
    machines: list[dict[str, float]],
    wanted: ResourcesConfig,
    growth: Growth | None = None,
    *,
    is_ours: bool,
) -> tuple[Slots, Share]:
    patch.setattr(ray_nodes, "living", lambda: machines)
    share = engine.fitting_share(wanted, growth, lambda text: None, wait=0.0)
    return engine.slots_of(wanted, share, growth, is_ours=is_ours), share


@pytest.mark.parametrize(
    ("have", "wanted", "slots", "gpus"),
    [
        ({"CPU": 8.0}, {}, 8, 0.0),
        ({"CPU": 8.0}, {"cpus": 3}, 2, 0.0),
        ({"CPU": 2.0}, {"cpus": 0.1}, 20, 0.0),
        ({"CPU": 8.0, "GPU": 2.0}, {}, 2, 1.0),
        ({"CPU": 8.0, "GPU": 1.0}, {"gpus": 0.25}, 4, 0.25),
        ({"CPU": 8.0, "GPU": 2.0}, {"gpus": 0}, 8, 0.0),
        ({"CPU": 8.0}, {"slots": 3}, 3, 0.0),
        ({"CPU": 2.0}, {"slots": 3}, 2, 0.0),
    ],
)
def test_as_many_fold_runs_at_once_as_fit(
    monkeypatch: pytest.MonkeyPatch,
    have: dict[str, float],
    wanted: dict[str, float],
    slots: int,
    gpus: float,
) -> None:
    got, share = slots_with(monkeypatch, [have], resources(**wanted), is_ours=True)
    assert (got.count, share.gpus) == (slots, gpus)
    assert got.measure is None


def test_on_a_cluster_the_user_may_ask_for_more_than_fits_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    got, _ = slots_with(monkeypatch, [{"CPU": 2.0}], resources(slots=8), is_ours=False)
    assert (got.count, got.measure) == (8, None)


def test_on_a_cluster_slots_follow_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [{"CPU": 2.0}]
    got, _ = slots_with(monkeypatch, machines, resources(), is_ours=False)
    assert got.count == 2
    machines.append({"CPU": 4.0})
    got.pause, got._next = 0.0, 0.0
    got.refresh()
    assert got.count == 6


def test_an_autoscaler_is_asked_for_all_that_it_may_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    head_alone = [{"CPU": 0.0}]
    growth = Growth((MachineType({"CPU": 8.0, "GPU": 1.0}, 4),), 3)
    got, share = slots_with(monkeypatch, head_alone, resources(), growth, is_ours=False)
    assert (got.count, share.gpus) == (3, 1.0)


@pytest.mark.parametrize("wanted", [{"cpus": 4}, {"gpus": 1}, {"cpus": 4, "slots": 2}])
def test_a_fold_run_that_never_fits_is_refused_with_both_numbers(
    monkeypatch: pytest.MonkeyPatch, wanted: dict[str, float]
) -> None:
    two = [{"CPU": 2.0}, {"CPU": 2.0}]
    with pytest.raises(UserError, match=r"the largest of 2 machines has 2 CPUs and 0 GPUs"):
        slots_with(monkeypatch, two, resources(**wanted), is_ours=True)


def test_a_machine_that_may_join_is_waited_for_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, said = iter([[], [], [{"CPU": 2.0}]]), []
    monkeypatch.setattr(ray_nodes, "living", lambda: next(answers))
    monkeypatch.setattr(engine, "PAUSE_SECONDS", 0.0)
    share = engine.fitting_share(resources(), Growth(), said.append, wait=60.0)
    assert share == Share(1.0, 0.0)
    assert len(said) == 2
    assert said[0].startswith("waiting for a machine to join: one fold run needs 1 CPUs")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:{port}", "refused"),
        ("ray://127.0.0.1:{port}", "Ray Client"),
        ("http://127.0.0.1:{port}", "foldblend submit"),
        ("127.0.0.1", "expected host:port"),
        ("nonsense", "expected host:port"),
    ],
)
def test_a_bad_address_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, address: str, why: str
) -> None:
    address = address.format(port=free_port())
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(UserError) as caught,
        engine.connected(load_study(["experiment=digits"]).run),
    ):
        pass
    message = str(caught.value)
    assert f"RAY_ADDRESS={address}" in message
    assert why in message
    assert "\n" not in message
    assert not ray.is_initialized()


def test_importing_the_engine_sets_nothing_in_the_environment() -> None:
    assert not [name for name in engine._SETTINGS if name in os.environ]


def test_the_environment_is_set_for_a_while_and_a_user_s_own_value_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MINE", "kept")
    monkeypatch.delenv("NEW", raising=False)
    with engine._environment({"MINE": "other", "NEW": "1"}):
        assert (os.environ["MINE"], os.environ["NEW"]) == ("kept", "1")
    assert os.environ["MINE"] == "kept"
    assert "NEW" not in os.environ


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_gently_and_the_second_is_the_user_s_own(
    number: signal.Signals,
) -> None:
    heard: list[str] = []
    conductor: Any = SimpleNamespace(stop=lambda: heard.append("stop"))
    before = signal.signal(number, lambda *_: heard.append("second"))
    try:
        with engine._gentle_interrupt(conductor):
            signal.raise_signal(number)
            signal.raise_signal(number)
        signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert heard == ["stop", "second", "second"]


def test_a_full_disk_is_named_whatever_tune_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory.of(str(tmp_path))
    engine._check_room(run)
    assert list(tmp_path.iterdir()) == []

    def full(location: Location, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(location))

    monkeypatch.setattr(Location, "write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        engine._check_room(run)
