from __future__ import annotations

import math
import re

import pytest

from tuner.report.charts import (
    SHAPES,
    Dot,
    Pair,
    Part,
    Scale,
    glyph,
    intervals,
    legend,
    mark,
    nice_step,
    pairs,
    scale_of,
    stacked,
    swatch,
    weight_bar,
)


def lengths(markup: str, name: str) -> list[float]:
    return [float(one) for one in re.findall(rf"{name}:([\d.]+)%", markup)]


def test_a_scale_maps_its_ends_to_nothing_and_all() -> None:
    scale = Scale(2.0, 4.0)
    assert [scale.share(v) for v in (2.0, 2.5, 4.0, 1.0, 9.0)] == [0.0, 25.0, 100.0, 0.0, 100.0]
    assert scale.place(6.0) == 200.0
    assert Scale(1.0, 1.0).share(1.0) == 50.0


def test_a_logarithmic_scale_gives_every_power_the_same_room() -> None:
    scale = Scale(0.01, 100.0, log=True)
    assert [round(scale.share(v)) for v in (0.01, 0.1, 1.0, 10.0, 100.0)] == [0, 25, 50, 75, 100]
    assert scale.share(0.0) == 0.0
    assert [text for _, text in scale.ticks(5)] == ["0.01", "0.1", "1", "10", "100"]
    assert [text for _, text in Scale(0.1, 1.0, log=True).ticks(6)] == ["0.1", "0.2", "0.5", "1"]


def test_ticks_are_round_and_within() -> None:
    assert Scale(0.0, 1.0).ticks() == tuple(
        (pytest.approx(v), f"{v:.1f}") for v in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    )
    assert [text for _, text in Scale(2.17, 3.2).ticks(6)] == [
        "2.2",
        "2.4",
        "2.6",
        "2.8",
        "3.0",
        "3.2",
    ]


@pytest.mark.parametrize(("width", "step"), [(1.0, 0.2), (0.03, 0.01), (40, 10), (0.0, 1.0)])
def test_steps_are_one_two_or_five(width: float, step: float) -> None:
    assert nice_step(width, 5) == pytest.approx(step)


def test_a_scale_leaves_air_and_out_what_is_no_number() -> None:
    scale = scale_of([1.0, 2.0, math.nan, math.inf], pad=0.1)
    assert (scale.low, scale.high) == (pytest.approx(0.9), pytest.approx(2.1))
    assert scale_of([]) == Scale(0.0, 1.0)
    assert scale_of([3.0]).low < 3.0 < scale_of([3.0]).high


def test_a_dot_stands_in_its_whisker() -> None:
    """Ends 0 and 10, air 0.6: a scale of -0.6 to 10.6, 11.2 long."""
    markup = intervals([Dot("a", 5.0, 0.0, 10.0, "five")], "label")
    left, dot = lengths(markup, "left")[:2]
    assert (left, dot) == (pytest.approx(100 * 0.6 / 11.2, abs=0.01), pytest.approx(50.0))
    assert lengths(markup, "width")[0] == pytest.approx(100 * 10 / 11.2, abs=0.01)
    assert "five" in markup


def test_a_dot_without_an_interval_has_no_whisker() -> None:
    assert "whisker" not in intervals([Dot("a", 5.0, None, None, "five")], "label")


def test_two_values_are_joined_whichever_is_larger() -> None:
    for first, second in ((0.2, 0.7), (0.7, 0.2)):
        markup = pairs([Pair("cat", first, second, "")], "label")
        assert lengths(markup, "left")[:3] == [100 * first, 20.0, 100 * second]
        assert lengths(markup, "width") == [50.0]
    assert "diamond" not in pairs([Pair("cat", 0.2, None, "")], "label")


def test_a_weight_s_bar_starts_at_nothing() -> None:
    markup = weight_bar(0.25, 0.1, 0.5, highest=0.5)
    assert lengths(markup, "width") == [50.0, 80.0]
    assert lengths(markup, "left") == [20.0]
    assert "whisker" not in weight_bar(0.25, None, None, highest=0.5)


def test_stacked_bars_share_one_scale_and_leave_out_nothing_s_part() -> None:
    rows = [
        ("a", [Part("member", 30.0, ""), Part("pruned", 10.0, "")], "40 s"),
        ("b", [Part("member", 10.0, ""), Part("failed", 0.0, "")], "10 s"),
    ]
    assert lengths(stacked(rows, "label"), "width") == [75.0, 25.0, 25.0]
    assert lengths(stacked([("a", [], "0 s")], "label"), "width") == []


def test_no_two_words_have_the_same_shape() -> None:
    assert len(set(SHAPES.values())) == len(SHAPES)
    assert SHAPES["pruned"] in glyph("pruned")
    assert SHAPES["finished"] in glyph("some other word")


def test_names_and_titles_are_escaped() -> None:
    evil = '"><script>'
    for markup in (
        intervals([Dot(evil, 1.0, None, None, evil)], evil),
        pairs([Pair(evil, 0.1, 0.2, evil)], evil),
        stacked([(evil, [Part("member", 1.0, evil)], evil)], evil),
        mark("pruned", 1.0, 2.0, evil),
        legend([(swatch("member"), evil)]),
    ):
        assert "<script>" not in markup
        assert '""' not in markup
