"""The Grafana dashboard and the settings of Prometheus, checked by its own tool where it is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuner.metrics import RAY_PREFIX, SPECS

CLUSTERS = Path(__file__).parents[2] / "clusters"
DASHBOARD = CLUSTERS / "grafana" / "foldblend.json"
PROMETHEUS = CLUSTERS / "prometheus" / "prometheus.yml"

# Metrics of Ray itself that the dashboard shows beside ours, and their tags.
OF_RAY = {"ray_node_gpus_utilization", "ray_node_cpu_utilization"}
TAGS_OF_RAY = {"instance", "GpuIndex"}


def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


def targets() -> list[tuple[str, dict[str, Any]]]:
    return [(panel["title"], one) for panel in dashboard()["panels"] for one in panel["targets"]]


def expressions() -> list[str]:
    """As Grafana sends them for every run."""
    return [target["expr"].replace("$run", ".*") for _, target in targets()]


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return found


def test_every_metric_of_ours_is_shown_and_every_one_shown_exists() -> None:
    shown = set(re.findall(r"ray_\w+", " ".join(expressions())))
    ours = {RAY_PREFIX + spec.name for spec in SPECS} - {"ray_foldblend_higher_is_better"}
    assert shown - OF_RAY <= ours
    assert ours - shown == {"ray_foldblend_slots"}  # that one names the runs, see below
    for variable in dashboard()["templating"]["list"]:
        assert set(re.findall(r"ray_\w+", json.dumps(variable))) <= {"ray_foldblend_slots"}


def test_a_legend_and_a_grouping_name_only_tags_that_are_there() -> None:
    tags = {RAY_PREFIX + spec.name: set(spec.tags) for spec in SPECS}
    tags |= dict.fromkeys(OF_RAY, TAGS_OF_RAY)
    for title, target in targets():
        (metric,) = set(re.findall(r"ray_\w+", target["expr"]))
        wanted = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        for group in re.findall(r"by \(([\w, ]+)\)", target["expr"]):
            wanted |= set(group.split(", "))
        assert wanted <= tags[metric], title


def test_the_data_source_is_the_reader_s_choice_everywhere() -> None:
    whole = dashboard()
    names = [one["name"] for one in whole["templating"]["list"]]
    assert names == ["datasource", "run"]
    for panel in whole["panels"]:
        assert panel["description"].endswith(".")
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_lie_beside_each_other_and_never_over() -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + column, place["y"] + row)
            for column in range(place["w"])
            for row in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_prometheus_can_read_every_expression(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression}
        for number, expression in enumerate(expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_prometheus_takes_its_settings(promtool: str) -> None:
    done = subprocess.run(
        [promtool, "check", "config", PROMETHEUS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_finds_the_machines_in_ray_s_own_list() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    settings = yaml.safe_load(PROMETHEUS.read_text())
    (job,) = settings["scrape_configs"]
    (found,) = job["file_sd_configs"]
    assert found["files"] == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]


def test_the_settings_say_how_to_listen_on_this_machine_alone() -> None:
    assert "--web.listen-address=127.0.0.1:9090" in PROMETHEUS.read_text()
