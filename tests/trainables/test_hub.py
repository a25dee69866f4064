from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.trainables.made_models import REVISION, closed_network, write_hub_cache
from trainables.hub import cached_folder, weights_in, why_out_of_reach


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    closed_network(monkeypatch, tmp_path / "hub")
    return tmp_path / "hub"


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_cached_model_is_found_with_its_files(cache: Path, file: str) -> None:
    assert cached_folder("owner/name") is None
    snapshot = write_hub_cache(cache, "owner/name", {file: b"w", "config.json": b"{}"})
    assert cached_folder("owner/name") == snapshot
    assert weights_in(snapshot) == snapshot / file
    assert cached_folder("owner/other") is None


def test_a_revision_is_looked_for_where_one_is_named(cache: Path) -> None:
    snapshot = write_hub_cache(cache, "owner/name", {"model.safetensors": b"w"})
    assert cached_folder(f"owner/name@{REVISION}") == snapshot
    assert cached_folder("owner/name@other") is None


def test_a_cached_configuration_alone_is_no_model(cache: Path) -> None:
    snapshot = write_hub_cache(cache, "owner/name", {"config.json": b"{}"})
    assert cached_folder("owner/name") is None
    assert weights_in(snapshot) is None


@pytest.mark.usefixtures("cache")
def test_a_closed_port_is_told_at_once() -> None:
    assert why_out_of_reach() == "127.0.0.1: [Errno 111] Connection refused"


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_a_switch_that_is_set_is_respected(
    monkeypatch: pytest.MonkeyPatch, switch: str, value: str
) -> None:
    monkeypatch.setenv(switch, value)
    monkeypatch.setattr(socket, "create_connection", None)  # not even tried
    assert why_out_of_reach() == f"{switch} is set"


@pytest.mark.parametrize("value", ["", "0", "false", "no"])
def test_a_switch_that_is_off_is_off(
    cache: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert "Connection refused" in (why_out_of_reach() or "")


def test_an_open_port_can_be_asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert why_out_of_reach() is None


def test_behind_a_proxy_only_the_proxy_could_tell(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert why_out_of_reach() is None


@pytest.mark.parametrize("endpoint", ["nonsense", "http://127.0.0.1:notaport"])
def test_an_endpoint_that_is_no_address_is_out_of_reach(
    cache: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert why_out_of_reach()
