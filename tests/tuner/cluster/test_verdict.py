from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from tuner.cluster.check import Findings, NodeFindings
from tuner.cluster.needs import Need, Needs
from tuner.cluster.verdict import has_no_worker, judge, table_of
from tuner.errors import UserError

NEEDS = Needs("/r/cars", False, (Need("data.images", "/d/train", True),))


def node(ip: str, *, is_head: bool = False, **more: Any) -> NodeFindings:
    versions = {"foldblend": "1.0", "ray": "2.60.0", "python": "3.11.7"}
    return NodeFindings(ip, is_head, **{"versions": versions, "free_bytes": 5 * 10**9, **more})


def findings(*workers: NodeFindings, wrong: str | None = None, **head: Any) -> Findings:
    return Findings("/r/cars", wrong, (node("10.0.0.1", is_head=True, **head), *workers))


def verdict(found: Findings, needs: Needs = NEEDS) -> str:
    with pytest.raises(UserError) as error:
        judge(found, needs, here="1.0")
    return str(error.value)


def test_a_fit_cluster_passes() -> None:
    judge(findings(node("10.0.0.2")), NEEDS, here="1.0")


def test_a_run_that_exists_says_how_to_go_on_with_it() -> None:
    text = verdict(findings(wrong="a run of this name exists"))
    assert "`foldblend resume /r/cars`, or choose another name=" in text


def test_the_command_to_go_on_with_a_run_is_quoted_for_a_shell() -> None:
    head = node("10.0.0.1", is_head=True)
    text = verdict(Findings("/my runs/cars", "a run of this name exists", (head,)))
    assert "`foldblend resume '/my runs/cars'`, or choose" in text


def test_a_run_to_resume_that_is_not_there() -> None:
    text = verdict(findings(wrong="no run is there"), Needs("/r/cars", True))
    assert "give the run directory as the cluster names it" in text


def test_a_node_that_says_nothing_is_named() -> None:
    assert "node 10.0.0.2: no answer in 120 s" in verdict(
        findings(NodeFindings("10.0.0.2", False, silent="no answer in 120 s"))
    )


def test_another_foldblend_is_refused_with_both_versions() -> None:
    old = node("10.0.0.2", versions={"foldblend": "0.9"})
    assert "node 10.0.0.2 has foldblend 0.9, this machine has 1.0" in verdict(findings(old))


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"ray": "2.59.0"}, "node 10.0.0.2 has Ray 2.59.0, the head has 2.60.0"),
        ({"python": "3.12.7"}, "node 10.0.0.2 has Python 3.12, the head has 3.11"),
    ],
)
def test_nodes_that_are_not_alike_are_refused(versions: dict[str, str], said: str) -> None:
    assert said in verdict(findings(node("10.0.0.2", versions=versions)))


def test_the_last_part_of_pythons_version_may_differ() -> None:
    judge(findings(node("10.0.0.2", versions={"python": "3.11.99"})), NEEDS, here="1.0")


def test_data_that_a_node_does_not_see_is_named_with_path_and_node() -> None:
    text = verdict(findings(node("10.0.0.2", wrong={"data.images": "nothing is there"})))
    assert "data.images=/d/train on node 10.0.0.2: nothing is there; put the data there" in text


def test_storage_of_the_heads_own_disk_is_refused_with_the_node_that_does_not_see_it() -> None:
    text = verdict(findings(node("10.0.0.2", wrong={"storage": "is not what the head sees there"})))
    assert text.startswith("storage=/r on node 10.0.0.2 is not what the head sees there; give")


def test_where_the_head_cannot_write_the_workers_are_not_blamed() -> None:
    found = findings(
        node("10.0.0.2", wrong={"storage": "is not what the head sees there"}),
        wrong=None,
    )
    head = node("10.0.0.1", is_head=True, wrong={"storage": "cannot be written: full"})
    text = verdict(Findings(found.run, None, (head, *found.nodes[1:])))
    assert "on the head 10.0.0.1: cannot be written: full" in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_has_a_row_a_node_and_fits_a_terminal(width: int) -> None:
    console = Console(width=width)
    silent = NodeFindings("10.0.0.4", False, silent="foldblend is not installed there")
    bad = node("10.0.0.3", wrong={"data.images": "x", "data.path": "y", "storage": "z"})
    found = findings(node("192.168.100.102"), bad, silent)
    with console.capture() as capture:
        console.print(table_of(found))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    assert "10.0.0.1 (head)" in lines[1]
    assert "5 GB" in lines[2]
    assert "2.60.0" in lines[2]


def test_a_head_alone_without_cpus_waits_for_its_workers() -> None:
    assert has_no_worker(findings(), 0.0)
    assert not has_no_worker(findings(), 4.0)
    assert not has_no_worker(findings(node("10.0.0.2")), 0.0)
