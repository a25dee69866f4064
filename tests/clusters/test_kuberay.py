"""`clusters/kuberay.yaml`: what the operator and Ray's autoscaler read, and who gets in."""

from __future__ import annotations

import copy
import re
from importlib import metadata
from typing import Any

import pytest
import yaml

from tests.clusters.clouds import ROOT, read

TOKEN = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": {"secretKeyRef": {"name": "foldblend-token", "key": "auth_token"}},
}

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    text = (ROOT / "clusters/kuberay.yaml").read_text(encoding="utf-8")
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="module")
def cluster(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return documents[0]


@pytest.fixture(scope="module")
def pods(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pod specification of the head and of each worker group."""
    groups = {group["groupName"]: group for group in cluster["spec"]["workerGroupSpecs"]}
    groups["head"] = cluster["spec"]["headGroupSpec"]
    return {name: group["template"]["spec"] for name, group in groups.items()}


def environment(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


def test_the_operator_knows_every_field(cluster: dict[str, Any]) -> None:
    import jsonschema

    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    jsonschema.validate(cluster["spec"], read("tests/clusters/raycluster_schema.yaml"))


def test_the_operator_refuses_a_misspelt_field(cluster: dict[str, Any]) -> None:
    import jsonschema

    wrong = {**cluster["spec"], "authOption": {"mode": "token"}}
    with pytest.raises(jsonschema.ValidationError, match="authOption"):
        jsonschema.validate(wrong, read("tests/clusters/raycluster_schema.yaml"))


def test_kubernetes_knows_every_field_of_the_rest(
    documents: list[dict[str, Any]], pods: dict[str, dict[str, Any]]
) -> None:
    kubernetes = pytest.importorskip(
        "kubernetes_validate",
        reason="kubernetes-validate is not installed",
    )
    version = kubernetes.latest_version()
    for other in documents[1:]:
        kubernetes.validate(other, version, strict=True)
    for spec in pods.values():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "checked"}, "spec": spec}
        kubernetes.validate(pod, version, strict=True)


def test_rays_autoscaler_reads_it(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )
    from ray.autoscaler._private.util import validate_config

    applied = copy.deepcopy(cluster)
    applied["metadata"]["namespace"] = "default"
    config = _derive_autoscaling_config_from_ray_cr(applied)
    validate_config(config)
    types = config["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    gpus = {name: kind["resources"].get("GPU", 0) for name, kind in types.items()}
    assert gpus == {"headgroup": 0, "gpu-1": 1, "gpu-4": 4}
    assert all(kind["min_workers"] == 0 for kind in types.values())
    assert config["idle_timeout_minutes"] == 10


def test_every_container_needs_the_token(
    cluster: dict[str, Any], pods: dict[str, dict[str, Any]]
) -> None:
    assert cluster["spec"]["authOptions"] == {"mode": "token", "secretName": "foldblend-token"}
    assert environment(cluster["spec"]["autoscalerOptions"]["env"]) == TOKEN
    for spec in pods.values():
        for container in spec["containers"]:
            assert TOKEN.items() <= environment(container["env"]).items()


def test_no_token_is_in_the_file() -> None:
    text = (ROOT / "clusters/kuberay.yaml").read_text(encoding="utf-8")
    assert not re.search(r"[0-9a-f]{32}", text)
    assert "kind: Secret" not in text


def test_nothing_is_reachable_from_outside(
    documents: list[dict[str, Any]], cluster: dict[str, Any]
) -> None:
    assert cluster["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    assert [d["kind"] for d in documents] == ["RayCluster", "NetworkPolicy"]
    ours = {"matchLabels": {"ray.io/cluster": cluster["metadata"]["name"]}}
    policy = documents[1]["spec"]
    assert policy["podSelector"] == ours
    assert policy["ingress"] == [{"from": [{"podSelector": ours}]}]


def test_pods_run_without_root_and_may_not_become_it(pods: dict[str, dict[str, Any]]) -> None:
    for spec in pods.values():
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


def test_workers_may_not_call_kubernetes(pods: dict[str, dict[str, Any]]) -> None:
    assert {name for name, spec in pods.items() if spec["automountServiceAccountToken"]} == {"head"}


def test_the_top_says_which_settings_a_search_needs_here(cluster: dict[str, Any]) -> None:
    """Nothing that could run a fold is there when a search begins."""
    assert all(group["replicas"] == 0 for group in cluster["spec"]["workerGroupSpecs"])
    text = (ROOT / "clusters/kuberay.yaml").read_text(encoding="utf-8")
    top = text.partition("apiVersion")[0]
    assert "search.resources.slots=N search.resources.gpus=1" in top


def test_ray_is_the_one_of_this_project(cluster: dict[str, Any]) -> None:
    assert cluster["spec"]["rayVersion"] == metadata.version("ray")
