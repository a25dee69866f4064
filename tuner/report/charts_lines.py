"""Lines over two axes. The lines stretch with the page, their strokes and all text do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tuner.report.charts import Scale, mark

MAX_Y_TICKS = 6
MAX_POINTS = 60  # of one line: more cannot be seen at the size at which it is drawn


@dataclass(frozen=True)
class Line:
    """`points`: (x, y), x ascending; a NaN breaks the line. `style`: its class."""

    points: tuple[tuple[float, float], ...]
    style: str
    title: str = ""


@dataclass(frozen=True)
class Mark:
    """A shape of `charts.SHAPES` at (x, y)."""

    word: str
    x: float
    y: float
    title: str = ""


@dataclass(frozen=True)
class Axes:
    """Small values are left and below, also of a loss."""

    x: Scale
    y: Scale
    x_label: str
    y_label: str


def plot(
    axes: Axes, lines: Sequence[Line], marks: Sequence[Mark], label: str, *, square: bool = False
) -> Markup:
    """A chart of lines and marks; what lies outside the axes is cut off at their edge."""
    grid = Markup("").join(
        Markup('<path class="grid" d="M0 {0:.2f}H100"/>').format(100 - axes.y.share(value))
        for value, _ in axes.y.ticks(MAX_Y_TICKS)
    )
    drawn = Markup("").join(_line(line, axes) for line in lines)
    shapes = Markup("").join(_mark(one, axes) for one in marks)
    ys = Markup("").join(
        Markup('<span style="top:{:.1f}%">{}</span>').format(100 - axes.y.share(value), text)
        for value, text in axes.y.ticks(MAX_Y_TICKS)
    )
    xs = Markup("").join(
        Markup('<span style="left:{:.1f}%">{}</span>').format(axes.x.share(value), text)
        for value, text in axes.x.ticks()
    )
    return Markup(
        '<div class="plot{}"><div class="y-label">{}</div><div class="ys" aria-hidden="true">{}'
        '</div><div class="area"><svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}{}</svg>{}</div><div class="xs" aria-hidden="true">{}</div>'
        '<div class="x-label">{}</div></div>'
    ).format(
        " square" if square else "", axes.y_label, ys, label, grid, drawn, shapes, xs, axes.x_label
    )


def path_of(points: Sequence[tuple[float, float]], axes: Axes) -> str:
    """SVG path data in a box of 100 x 100, y downwards. Broken where a value is not finite. Values
    far outside are kept: the box clips them where the line really crosses its edge."""
    steps, pen = [], "M"
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        steps.append(f"{pen}{axes.x.share(x):.1f} {_beyond(axes.y, y):.1f}")
        pen = "L"
    return "".join(steps)


def thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """At most MAX_POINTS of them, evenly, with the first and the last."""
    if len(points) <= MAX_POINTS:
        return tuple(points)
    last = len(points) - 1
    return tuple(points[round(i * last / (MAX_POINTS - 1))] for i in range(MAX_POINTS))


def _beyond(scale: Scale, y: float) -> float:
    """From the top, a hundred heights beyond the box at most."""
    return 100.0 - min(1e4, max(-1e4, scale.place(y)))


def _line(line: Line, axes: Axes) -> Markup:
    about = Markup("<title>{}</title>").format(line.title) if line.title else ""
    data = path_of(thinned(line.points), axes)
    return Markup('<path class="line {}" d="{}">{}</path>').format(line.style, data, about)


def _mark(one: Mark, axes: Axes) -> Markup:
    y = one.y if math.isfinite(one.y) else axes.y.high
    return mark(one.word, axes.x.share(one.x), 100 - axes.y.share(y), one.title)
