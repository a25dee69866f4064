from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.command import Command
from tuner.cluster import connection, parcel
from tuner.cluster import fetch as fetch_module
from tuner.cluster.contents import EVERYTHING
from tuner.cluster.fetch import Fetched
from tuner.cluster.parcel import Receipt
from tuner.errors import UserError


@pytest.fixture
def foldblend(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command asked for, instead of fetching it."""
    calls: list[Any] = []

    def bring(target: str, output: Path, what: Any, console: Any, connect: Any) -> Fetched:
        calls.extend((target, output, what, connect))
        names = ("bundle/ensemble.json", "report.html", "run.yaml")
        kept = tuple(one for one in names if "bundle" in what or not one.startswith("bundle"))
        return Fetched(output / "cars", "/runs/cars", kept, 5_250_000, 250_000, "http://head")

    monkeypatch.setattr(fetch_module, "fetch", bring)
    return calls


def test_what_came_and_the_next_command_are_said(foldblend: Command, asked: list[Any]) -> None:
    answer = foldblend("fetch", "cars", "-o", "results")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "/runs/cars -> results/cars: 3 files, 5.2 MB (0.2 MB came now, from http://head)",
        "report -> results/cars/report.html",
        "next: foldblend predict results/cars/bundle images/ -o submission.csv",
    ]
    assert asked[:3] == ["cars", Path("results"), EVERYTHING]


def test_the_next_command_is_quoted_for_a_shell(foldblend: Command, asked: list[Any]) -> None:
    answer = foldblend("fetch", "cars", "-o", "my results")
    assert "next: foldblend predict 'my results/cars/bundle' images/ -o" in answer.out


def test_without_a_bundle_there_is_nothing_to_predict_with(
    foldblend: Command, asked: list[Any]
) -> None:
    answer = foldblend("fetch", "cars", "--what", "report,oof")
    assert "predict" not in answer.out
    assert asked[1:3] == [Path(), ("report", "oof")]


def test_the_cluster_is_looked_for_only_when_it_is_needed(
    foldblend: Command, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(connection.Connection, "open", opened.append)
    foldblend("fetch", "cars", "--address", "http://head:8265")
    assert opened == []
    asked[3]()
    assert opened == ["http://head:8265"]


def test_an_unknown_part_is_one_line(foldblend: Command) -> None:
    line = foldblend("fetch", "cars", "--what", "weights").one_line_error()
    assert line == "--what weights: expected some of bundle, report, oof, got 'weights'"


def test_what_the_cluster_runs_prints_the_receipt_last(
    foldblend: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def packed(run: str, what: Any, part_bytes: int, say: Any) -> Receipt:
        say(f"packing {run}: {','.join(what)} in parts of {part_bytes}")
        return Receipt("k-s", "ab12", "0" * 64)

    monkeypatch.setattr(parcel, "pack_on_cluster", packed)
    answer = foldblend("pack-run", "--what", "oof", "--part-bytes", "64", "--", "/runs/cars")
    first, last = answer.out.splitlines()
    assert first == "packing /runs/cars: oof in parts of 64"
    assert Receipt.in_log(last) == Receipt("k-s", "ab12", "0" * 64)


def test_a_mistake_there_is_one_line_too(
    foldblend: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*given: Any) -> Receipt:
        raise UserError("/runs/cars: the head sees no run there")

    monkeypatch.setattr(parcel, "pack_on_cluster", missing)
    answer = foldblend("pack-run", "--part-bytes", "64", "/runs/cars")
    assert answer.one_line_error() == "/runs/cars: the head sees no run there"
    assert foldblend("drop-parcel", "../..").one_line_error().startswith("expected the name of a")


def test_hidden_commands_are_not_in_the_help(foldblend: Command) -> None:
    out = foldblend("--help").out
    assert "fetch" in out
    assert "pack-run" not in out
    assert "drop-parcel" not in out
