"""docs/security.md: its table, its firewall and `clusters/onprem.yaml` speak of the same ports.

That machines really listen there, and nowhere else, tests/test_cluster_end_to_end.py measures.
"""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from tests.hosts import firewall
from tests.hosts.listening import DOCUMENT, QUESTIONS, Row, rows
from tests.hosts.onprem import ROOT
from tests.hosts.possible import program

# What no other machine of the cluster has to reach.
INSIDE = {8265, 10001, 44217, 44227}


@pytest.fixture(scope="module")
def text() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def table(text: str) -> list[Row]:
    return rows(text)


def test_every_port_that_the_cluster_file_fixes_is_in_the_table(table: list[Row]) -> None:
    written = yaml.safe_load((ROOT / "clusters" / "onprem.yaml").read_text(encoding="utf-8"))
    commands = written["head_start_ray_commands"] + written["worker_start_ray_commands"]
    fixed = {int(port) for command in commands for port in re.findall(r"port=(\d+)", command)}
    assert fixed <= {port for row in table for port in (row.first, row.last)}
    assert {row.first for row in table} == set(QUESTIONS)


def test_the_firewall_lets_the_machines_of_a_cluster_do_what_ray_needs(table: list[Row]) -> None:
    for row in table:
        assert firewall.lets_in(row.first) == (row.first not in INSIDE), row
        assert firewall.lets_in(row.last) == (row.last not in INSIDE), row
    assert not firewall.lets_in(11000)


def test_only_metrics_are_handed_out_without_the_token(table: list[Row]) -> None:
    assert {row.first for row in table if not row.asks} == {8090, 44217, 44227}


def test_the_dashboard_is_the_head_s_own(table: list[Row]) -> None:
    (dashboard,) = (row for row in table if row.first == 8265)
    assert (dashboard.hosts, dashboard.binds) == ({"head"}, {"127.0.0.1"})


@pytest.mark.skipif(program("nft") is None, reason="nft is not installed (Debian: nftables)")
def test_nft_takes_the_rules(text: str) -> None:
    (rules,) = re.findall(r"^```nft\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    checked = subprocess.run(
        [str(program("nft")), "-c", "-f", "-"], input=rules, capture_output=True, text=True
    )
    if "Operation not permitted" in checked.stderr:
        pytest.skip("nft needs root, even to check")
    assert checked.returncode == 0, checked.stderr
