from __future__ import annotations

from pathlib import Path

import pytest
import ray
import yaml

from tests.tuner.test_slots import AWS
from tuner import ray_nodes
from tuner.slots import Growth, Share


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The home of a cluster's head, 10.0.0.1."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    return tmp_path / "ray_bootstrap_config.yaml"


def test_the_head_knows_what_its_autoscaler_may_fetch(head: Path) -> None:
    head.write_text(yaml.safe_dump(AWS))
    growth = ray_nodes.growth("10.0.0.1:6379")
    assert growth is not None
    assert growth.room(Share(1.0, 1.0)) == 7


@pytest.mark.parametrize("text", [None, "", "- a list", "{no: yaml"])
def test_without_a_readable_file_nothing_is_known(head: Path, text: str | None) -> None:
    if text is not None:
        head.write_text(text)
    assert ray_nodes.growth("10.0.0.1:6379") is None


def test_the_file_of_another_cluster_is_not_believed(head: Path) -> None:
    head.write_text(yaml.safe_dump(AWS))
    assert ray_nodes.growth("10.0.0.2:6379") is None


def test_the_dead_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": False, "Resources": {}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert ray_nodes.living() == [{"CPU": 2.0}]


def test_growth_is_a_value() -> None:
    assert Growth() == Growth((), 0)
