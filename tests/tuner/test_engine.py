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
from search_spaces.space import load_study
from tests.ports import free_port
from tuner import engine
from tuner.errors import UserError
from tuner.run_directory import RunDirectory


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
