from __future__ import annotations

import math

from tuner.report.charts_heat import heat_map


def drawn(names: list[str], values: list[list[float]]) -> str:
    texts = [[f"{value:.1f}" for value in row] for row in values]
    return heat_map(names, names, values, texts, label="l", row_title="r", column_title="c")


def test_a_cell_has_its_number_and_its_shade() -> None:
    markup = drawn(["a", "b"], [[1.0, 0.0], [0.25, math.nan]])
    assert '<td class="h10 d">1.0</td><td class="h0">0.0</td>' in markup
    assert '<td class="h3">0.2</td><td class="h0 d">nan</td>' in markup


def test_a_map_of_different_things_has_no_diagonal() -> None:
    markup = heat_map(
        ["a"], ["b"], [[0.5]], [["x"]], label="l", row_title="r", column_title="c", highest=0.5
    )
    assert '<td class="h10">x</td>' in markup


def test_only_long_names_are_turned() -> None:
    assert "turned" not in drawn(["a", "b"], [[1.0, 0.0], [0.0, 1.0]])
    assert "turned" in drawn(["a", "longer"], [[1.0, 0.0], [0.0, 1.0]])


def test_names_are_escaped() -> None:
    assert "<i>" not in drawn(["<i>", "b"], [[1.0, 0.0], [0.0, 1.0]])
