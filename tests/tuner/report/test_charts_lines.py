from __future__ import annotations

import math

from tuner.report.charts import Scale
from tuner.report.charts_lines import MAX_POINTS, Axes, Line, Mark, path_of, plot, thinned

AXES = Axes(Scale(1, 5), Scale(0, 10), "epoch", "loss")


def test_points_are_drawn_with_y_upwards() -> None:
    assert path_of([(1, 0), (3, 5), (5, 10)], AXES) == "M0.0 100.0L50.0 50.0L100.0 0.0"


def test_a_value_that_is_no_number_breaks_the_line() -> None:
    points = [(1, 0), (2, math.nan), (3, 5), (5, math.inf)]
    assert path_of(points, AXES) == "M0.0 100.0M50.0 50.0"


def test_a_line_leaves_the_box_where_it_really_does() -> None:
    """Clipping is the browser's: the point itself stays far out, within reason."""
    assert path_of([(1, 20)], AXES) == "M0.0 -100.0"
    assert path_of([(1, 1e30)], AXES) == "M0.0 -9900.0"


def test_a_long_line_keeps_its_ends() -> None:
    points = [(float(x), 0.0) for x in range(1000)]
    thin = thinned(points)
    assert len(thin) == MAX_POINTS
    assert (thin[0], thin[-1]) == (points[0], points[-1])
    assert thinned(points[:5]) == tuple(points[:5])


def test_a_mark_outside_stands_at_the_edge() -> None:
    markup = plot(AXES, [], [Mark("pruned", 3, 99.0), Mark("failed", 3, math.nan)], "label")
    assert markup.count("left:50.0%;top:0.0%") == 2


def test_a_plot_has_titles_labels_and_escapes_them() -> None:
    line = Line(((1.0, 1.0), (2.0, 2.0)), "l-member", "<b>c0</b>")
    markup = plot(AXES, [line], [], 'what "it" is')
    assert "&lt;b&gt;c0&lt;/b&gt;" in markup
    assert 'aria-label="what &#34;it&#34; is"' in markup
    assert markup.count('class="grid"') == 6
    assert "epoch" in markup
    assert "square" in plot(AXES, [], [], "", square=True)
